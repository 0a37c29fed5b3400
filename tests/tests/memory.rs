//! Runs against rooms of any size: what is refused, which key is blamed, and that the advice fits.

use std::path::Path;

use ember_tests::gpu as adapter;
use ember_train::config::{Config, Overrides};
use ember_train::device;
use ember_train::error::Error;
use ember_train::memory::{self, Room, Sizes};

const GIB: u64 = 1 << 30;

/// 1,000 walkers of 64 coordinates through an image network.
const CONFIG: &str = r#"
steps = 10

[dataset]
kind = "shapes32"
train_size = 1000
test_size = 100
batch_size = 100

[energy]
kind = "conv"
layers = [{ out = 64, kernel = 3, padding = 1 }, { out = 1, kernel = 32 }]
confinement = 1.0

[walkers]
count = 1000

[kernel]
kind = "ula"
step_size = 0.1

[objective]
kind = "jarzynski"

[optimizer]
kind = "adam"
learning_rate = 0.005

[audit]
walkers = 10
repeats = 2
every = 10
"#;

fn cpu(available: u64) -> Room {
    Room { device: "flex".into(), available: Some(available), shared: true, ..Room::default() }
}

fn gpu(largest: u64, on_device: Option<u64>) -> Room {
    let available = Some(64 * GIB);
    Room { device: "wgpu:0".into(), available, on_device, largest: Some(largest), shared: false }
}

fn with(changes: &[(&str, &str)]) -> Config {
    let text = changes.iter().fold(CONFIG.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "no `{from}`");
        text.replacen(from, to, 1)
    });
    Config::from_toml(&text, "c.toml").expect("a config")
}

fn check(config: &Config, room: &Room) -> Result<(), Error> {
    memory::check(config, room, Path::new("c.toml"))
}

/// Refuses the config where it says, and gives the largest value that fits.
#[track_caller]
fn refused(config: &Config, room: &Room, words: &[&str]) -> String {
    let error = check(config, room).expect_err("it is too large");
    assert_eq!(error.exit_code(), 2);
    let text = error.to_string();
    for word in words.iter().chain(&["c.toml: "]) {
        assert!(text.contains(word), "no `{word}` in: {text}");
    }
    text.rsplit_once("about ").expect("an advice").1.to_owned()
}

#[test]
fn the_key_that_has_to_change_the_least_is_named_and_the_advice_fits() {
    let cases = [
        ("count = 1000", "count = ", "1000000", "walkers.count"),
        ("train_size = 1000", "train_size = ", "1000000", "dataset.train_size"),
        ("test_size = 100", "test_size = ", "1000000", "dataset.test_size"),
        ("walkers = 10", "walkers = ", "500000", "audit.walkers"),
    ];
    let room = cpu(2 * GIB);
    for (from, to, size, key) in cases {
        let config = |size: &str| with(&[(from, &format!("{to}{size}"))]);
        let words = [&format!("{key}: found {size}, and at least "), "are needed, and 2.0 GiB are available"];
        let advice = refused(&config(size), &room, &words);
        check(&config(&advice), &room).unwrap_or_else(|error| panic!("{advice}: {error}"));
        assert!(advice.parse::<u64>().expect("a number") > 1_000, "{key}: {advice}");
    }
}

/// Between the floor and the peak a run starts, and is told of a size that surely fits.
#[test]
fn a_run_whose_peak_may_not_fit_is_warned_of() {
    let room = cpu(2 * GIB);
    let config = |count: &str| with(&[("count = 1000", &format!("count = {count}"))]);
    let advice = refused(&config("1000000"), &room, &["walkers.count"]).parse::<f64>().expect("a number");
    // 2.9 times what is advised is not refused: the floor fits, the peak may not.
    let large = config(&format!("{:.0}", 2.9 * advice));
    check(&large, &room).expect("the floor fits");
    let warning = memory::tight(&large, &room).expect("the peak may not fit");
    for word in ["walkers.count = ", "up to ", "and 2.0 GiB are available", &format!("about {advice}")] {
        assert!(warning.contains(word), "no `{word}` in: {warning}");
    }
    assert_eq!(memory::tight(&config(&format!("{advice}")), &room), None);
    assert_eq!(memory::tight(&large, &Room::default()), None, "nothing is known");
}

/// 64 × 32 × 32 numbers come out of the first layer for every walker that moves and every row of the batch.
#[test]
fn the_largest_tensor_of_a_gpu_is_a_limit_of_its_own() {
    let room = gpu(GIB, None);
    check(&with(&[]), &room).expect("1,000 walkers fit");
    let large = with(&[("count = 1000", "count = 10000")]);
    let words = ["walkers.moved_per_update: found 10000", "a tensor of 2.4 GiB", "none larger than 1.0 GiB"];
    assert_eq!(refused(&large, &room, &words), "4000");
    check(&with(&[("count = 1000", "count = 10000\nmoved_per_update = 4000")]), &room).expect("the advice");
    let batch =
        with(&[("train_size = 1000", "train_size = 10000"), ("batch_size = 100", "batch_size = 9000")]);
    assert_eq!(refused(&batch, &room, &["dataset.batch_size: found 9000", "a tensor of 2.2 GiB"]), "4000");
    // The same on a processor, which goes through the layers in blocks.
    for config in [&large, &batch] {
        check(config, &cpu(2 * GIB)).expect("there is no such tensor");
    }
}

#[test]
fn the_memory_of_a_gpu_counts_where_it_is_known() {
    let large = with(&[("count = 1000", "count = 1000000\nmoved_per_update = 100")]);
    check(&large, &gpu(64 * GIB, None)).expect("nobody knows better");
    let words = ["walkers.count: found 1000000", "GiB are needed on wgpu:0, which has 8.0 GiB"];
    refused(&large, &gpu(64 * GIB, Some(8 * GIB)), &words);
    // The rows stay in host memory, and positions are drawn there.
    let host = Room { available: Some(GIB), ..gpu(64 * GIB, Some(64 * GIB)) };
    refused(&large, &host, &["walkers.count", "11.4 GiB of memory are needed, and 1.0 GiB are available"]);
    let shared = Room { shared: true, available: Some(8 * GIB), ..gpu(64 * GIB, None) };
    refused(&large, &shared, &["walkers.count", "of memory are needed, and 8.0 GiB are available"]);
}

/// What an adapter says of itself: a tensor a walker larger than its largest is refused.
#[test]
fn an_adapter_says_how_large_a_tensor_may_be() {
    if adapter().is_none() {
        return;
    }
    let room = device::select("wgpu").expect("it was there").room();
    let largest = room.largest.expect("every adapter has a limit");
    assert!(largest >= 128 << 20, "{largest} bytes are less than Vulkan guarantees");
    let walkers = largest / (3 * 32 * 32 * 4) + 1;
    // Beyond 2³² numbers the config itself is refused.
    if walkers < u64::from(u32::MAX) / (3 * 32 * 32) {
        let config = with(&[("count = 1000", &format!("count = {walkers}\nmoved_per_update = 1"))]);
        refused(&config, &room, &["walkers.count", "wgpu:0", "holds none larger than"]);
    }
}

#[test]
fn nothing_is_refused_where_nothing_is_known() {
    let large = with(&[("count = 1000", "count = 1000000")]);
    check(&large, &Room::default()).expect("no limits");
    let host = Room::host("flex");
    assert!(!cfg!(target_os = "linux") || host.available.is_some_and(|bytes| bytes > 1 << 20), "{host:?}");
}

/// A network whose parameters alone are too many has no one size to blame.
#[test]
fn parameters_beyond_the_memory_ask_for_a_smaller_energy() {
    let error = check(&with(&[("out = 64", "out = 60000")]), &cpu(GIB)).expect_err("it is too large");
    let text = error.to_string();
    assert!(text.starts_with("c.toml: [energy]: ") && text.contains("take a smaller energy"), "{text}");
}

/// No shipped config asks for more than 2 GiB at least.
#[test]
fn every_shipped_config_fits() {
    let configs =
        std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs")).expect("configs");
    let paths = configs.map(|entry| entry.expect("an entry").path());
    for path in paths.filter(|path| path.extension().is_some_and(|extension| extension == "toml")) {
        let config = Config::load(&path, &Overrides::default()).expect("a shipped config").config;
        check(&config, &cpu(2 * GIB)).unwrap_or_else(|error| panic!("{error}"));
        check(&config, &gpu(GIB, Some(2 * GIB)))
            .unwrap_or_else(|error| panic!("{error}: {:?}", Sizes::of(&config)));
    }
}
