//! `ember report`: what is in the page, that it needs nothing else, and that a browser draws it.

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use ember_train::view::report::{MOST_POINTS, Point, thin};

use crate::support::{MLP, Scratch, TOY};

/// A trained run of `config` in the folder `run`, and its page.
fn reported(config: &str) -> (Scratch, String) {
    let scratch = Scratch::new(config);
    scratch.ok(&["train", "toy.toml", "--out", "run", "--device", "flex"]);
    let html = page(&scratch);
    (scratch, html)
}

/// Writes `run/report.html` and reads it.
fn page(scratch: &Scratch) -> String {
    let printed = scratch.ok(&["report", "run"]);
    assert_eq!(printed.trim_end(), "run/report.html");
    std::fs::read_to_string(scratch.path("run/report.html")).expect("a page")
}

/// The bytes of every `data:image/png` of a page.
fn pictures(html: &str) -> Vec<Vec<u8>> {
    let mut rest = html;
    let mut pictures = Vec::new();
    while let Some(at) = rest.find("data:image/png;base64,") {
        rest = &rest[at + "data:image/png;base64,".len()..];
        let end = rest.find('"').expect("the attribute ends");
        let engine = base64::engine::general_purpose::STANDARD;
        pictures.push(engine.decode(&rest[..end]).expect("base64"));
    }
    pictures
}

/// Nothing that a browser would fetch, run or follow.
fn assert_self_contained(html: &str) {
    for word in
        ["http://", "https://", "<script", "<link", "@import", "url(http", "src=\"/", "src=\"s", "href="]
    {
        assert!(!html.contains(word), "`{word}` in the page");
    }
    let sources = html.matches("src=\"").count();
    assert_eq!(sources, html.matches("src=\"data:image/png;base64,").count());
}

#[test]
fn the_page_holds_everything_and_needs_nothing() {
    let (scratch, html) = reported(TOY);
    assert_self_contained(&html);
    for id in [
        "energy-gap",
        "ess-fraction",
        "log-z",
        "grad-norm",
        "learning-rate",
        "distinct-ancestors",
        "mode-weights",
    ] {
        assert!(html.contains(&format!("id=\"curve-{id}\"")), "no curve {id}");
    }
    assert!(!html.contains("curve-accept-rate"), "ULA never rejects");
    assert!(html.contains("no estimate of the model&#39;s log Z"), "the on-line value is labelled");
    assert!(html.contains("audit ± 2 s.e."));
    assert!(html.contains("60 of 60, done") && html.contains("flex"));
    assert!(
        html.contains("<h2>Figures</h2>") && html.contains("at update 60"),
        "what `train` printed at its end"
    );
    // Every picture of the run, as it is; the newest first.
    let shown = pictures(&html);
    let read = |step: u64| {
        std::fs::read(scratch.path(&format!("run/samples/step_{step:08}.png"))).expect("a picture")
    };
    assert_eq!(shown, [read(60), read(20), read(40)]);
    for png in &shown {
        image::load_from_memory(png).expect("a PNG");
    }
    // The config, verbatim.
    let config = std::fs::read_to_string(scratch.path("run/config.toml")).expect("a config");
    assert!(html.contains(&config.replace('"', "&quot;")));

    // After an evaluation its newest line is the table.
    let eval: serde_json::Value =
        serde_json::from_str(&scratch.ok(&["eval", "run", "--json", "--device", "flex"])).expect("JSON");
    let html = page(&scratch);
    assert!(html.contains("<th scope=\"row\">kl</th>") && html.contains("exact"), "the evaluation");
    let kl = eval["kl"]["value"].as_f64().expect("a number");
    // Five digits.
    let decimals = (4.0 - kl.abs().log10().floor()) as usize;
    let digits = format!("{kl:.decimals$}").trim_end_matches('0').replace('-', "−");
    assert!(html.contains(&digits), "{digits}");
    // Another file, and the run's own is left.
    assert_eq!(scratch.ok(&["report", "run", "--out", "other.html"]).trim_end(), "other.html");
    assert_eq!(std::fs::read_to_string(scratch.path("other.html")).expect("a page"), html);
}

#[test]
fn what_is_in_the_files_is_text() {
    let (scratch, _) = reported(MLP);
    let run = scratch.path("run");
    let evil = "<script>alert('1')</script>";
    let event = serde_json::json!({ "step": 10, "event": evil, "learning_rate": 0.5, "why": evil });
    std::fs::write(run.join("events.jsonl"), format!("{event}\nhalf a li")).expect("events");
    let eval = serde_json::json!({ "step": 10, evil: evil, "log_z": { "value": 1.25, "standard_error": 0.5, "method": evil } });
    std::fs::write(run.join("eval.jsonl"), format!("{eval}\n")).expect("an evaluation");
    let config = std::fs::read_to_string(run.join("config.toml")).expect("a config");
    std::fs::write(run.join("config.toml"), format!("# {evil} & \"quoted\"\n{config}")).expect("a config");
    let html = page(&scratch);
    assert_self_contained(&html);
    assert_eq!(html.matches("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;").count(), 6);
    assert!(html.contains("1.25 ± 0.5") && html.contains("at update 10; the run is at 20"));
    assert!(
        html.contains("id=\"events\"") && html.contains("class=\"event\""),
        "rollbacks are listed and marked"
    );
    assert!(html.contains("curve-accept-rate"), "MALA rejects");
}

#[test]
fn a_run_of_one_line_without_pictures_has_a_page() {
    let (scratch, _) = reported(TOY);
    let run = scratch.path("run");
    let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).expect("metrics");
    let first = metrics.lines().next().expect("a line");
    std::fs::write(run.join("metrics.jsonl"), format!("{first}\n{{\"step\": 2"))
        .expect("one line and a half");
    std::fs::remove_dir_all(run.join("samples")).expect("pictures");
    std::fs::remove_dir_all(run.join("checkpoints")).expect("checkpoints");
    let html = page(&scratch);
    assert!(pictures(&html).is_empty() && html.contains("<circle"), "one point is a dot");
    assert!(html.contains("10 of 60"));
}

#[test]
fn a_long_run_stays_small() {
    let (scratch, _) = reported(TOY);
    let run = scratch.path("run");
    let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).expect("metrics");
    let mut line: serde_json::Value =
        serde_json::from_str(metrics.lines().next().expect("a line")).expect("JSON");
    let mut text = String::new();
    for step in 1..=100_000_u64 {
        line["step"] = step.into();
        line["energy_data"] = ((step * 7919 % 1000) as f64 / 1000.0).into();
        // One update in 10⁵ stands out: it must still be seen.
        line["grad_norm"] = if step == 54_321 { 7777.0 } else { 1.0 + (step * 31 % 97) as f64 / 97.0 }.into();
        text += &format!("{line}\n");
    }
    std::fs::write(run.join("metrics.jsonl"), text).expect("metrics");
    let pictures: usize = pictures(&page(&scratch)).iter().map(Vec::len).sum();
    let html = page(&scratch);
    let rest = html.len() - pictures * 4 / 3;
    assert!(rest < 700_000, "{rest} bytes beside the pictures");
    let chart = html.split("id=\"curve-grad-norm\"").nth(1).and_then(|rest| rest.split("</figure>").next());
    let points =
        chart.and_then(|chart| chart.split("points=\"").nth(1)).and_then(|rest| rest.split('"').next());
    let points: Vec<f64> = points
        .expect("a line")
        .split(' ')
        .map(|point| point.split(',').nth(1).expect("x,y").parse().expect("a number"))
        .collect();
    assert!(points.len() <= 2_000 && points.len() > 1_000, "{} points", points.len());
    let highest = points.iter().copied().fold(f64::INFINITY, f64::min);
    let mut sorted = points.clone();
    sorted.sort_by(f64::total_cmp);
    assert!(
        sorted[1] - highest > 100.0,
        "the one large gradient norm stands out: {highest} against {}",
        sorted[1]
    );
}

#[test]
fn a_thinned_curve_keeps_its_excursions_and_its_gaps() {
    let point = |x: usize, y: f64| Point { x: x as f64, y, half: 0.0 };
    let wave = |n: usize| -> Vec<Point> { (0..n).map(|i| point(i, (i as f64 * 0.01).sin())).collect() };
    assert_eq!(thin(&wave(MOST_POINTS)), wave(MOST_POINTS));
    assert!(thin(&[]).is_empty());
    let mut points = wave(100_000);
    points[31_415].y = 50.0;
    points[31_416].y = -60.0;
    points[50_000].y = f64::NAN;
    points[70_000..80_000].iter_mut().for_each(|point| point.y = f64::INFINITY);
    let thinned = thin(&points);
    assert!(thinned.len() <= MOST_POINTS && thinned.len() > MOST_POINTS / 2);
    assert!(thinned.is_sorted_by(|a, b| a.x < b.x), "from left to right");
    assert!(thinned.contains(&points[31_415]) && thinned.contains(&points[31_416]));
    let gap = thinned.iter().filter(|point| !point.y.is_finite());
    assert!(gap.clone().count() > 90 && gap.clone().all(|point| (70_000.0..80_000.0).contains(&point.x)));
}

#[test]
fn a_folder_that_is_no_run_is_refused() {
    let (scratch, _) = reported(TOY);
    scratch.fails(&["report", "nowhere"], 2, &["nowhere", "cannot be read"]);
    std::fs::create_dir(scratch.path("empty")).expect("a folder");
    scratch.fails(&["report", "empty"], 2, &["empty", "config.toml", "no run folder"]);
    scratch.fails(&["report", "run/checkpoints/step_00000060"], 2, &["no run folder"]);
    scratch.fails(&["report", "toy.toml"], 2, &["no run folder"]);
    scratch.fails(&["report", "run", "--out", "nowhere/x.html"], 2, &["nowhere", "does not exist"]);
    let metrics = scratch.path("run/metrics.jsonl");
    let text = std::fs::read_to_string(&metrics).expect("metrics");
    std::fs::write(&metrics, format!("no JSON\n{text}")).expect("metrics");
    scratch.fails(&["report", "run", "--out", "x.html"], 2, &["metrics.jsonl", "line 1"]);
    std::fs::write(&metrics, "").expect("metrics");
    scratch.fails(&["report", "run", "--out", "x.html"], 2, &["metrics.jsonl", "no metric line"]);
    std::fs::remove_file(&metrics).expect("metrics");
    scratch.fails(&["report", "run", "--out", "x.html"], 2, &["no metrics.jsonl"]);
    assert!(!scratch.path("x.html").exists(), "nothing is written");
}

#[test]
fn a_browser_draws_it() {
    let Some(chromium) = chromium() else { return };
    let (scratch, _) = reported(TOY);
    scratch.ok(&["eval", "run", "--device", "flex"]);
    page(&scratch);
    for (name, width) in [("wide", 1200), ("phone", 400)] {
        let shot = screenshot(&chromium, &scratch, name, width);
        assert_eq!(shot.width(), width);
        let near = |pixel: &[u8; 3], [r, g, b]: [u8; 3]| {
            pixel.iter().zip([r, g, b]).all(|(&a, b)| a.abs_diff(b) <= 6)
        };
        let count = |color: [u8; 3]| shot.pixels().filter(|pixel| near(&pixel.0, color)).count();
        let colors: std::collections::HashSet<[u8; 3]> = shot.pixels().map(|pixel| pixel.0).collect();
        assert!(colors.len() > 50, "{name}: only {} colours", colors.len());
        // The page, its cards, and the strokes of the first two lines of a chart.
        for (what, color, least) in [
            ("page", [0xf6, 0xf7, 0xf9], 10_000),
            ("cards", [0xff, 0xff, 0xff], 10_000),
            ("first lines", [0x00, 0x72, 0xb2], 500),
            ("second lines", [0xd5, 0x5e, 0x00], 50),
        ] {
            let found = count(color);
            // Lines are shorter on a narrow page.
            let least = least * width as usize / 1200;
            assert!(found >= least, "{name}: {found} pixels of {what}, at least {least} expected");
        }
    }
}

/// The browser. `None` (with a line that says so) where there is none.
fn chromium() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders)
        .flat_map(|folder| ["chromium", "chromium-browser", "google-chrome"].map(|name| folder.join(name)))
        .find(|path| path.is_file());
    if found.is_none() {
        let required = std::env::var("EMBER_REQUIRE_CHROMIUM").as_deref() == Ok("1");
        assert!(!required, "EMBER_REQUIRE_CHROMIUM=1, but there is no chromium on the PATH");
        eprintln!("skipped: no chromium on the PATH");
    }
    found
}

/// What `run/report.html` looks like in a window of this width.
fn screenshot(chromium: &Path, scratch: &Scratch, name: &str, width: u32) -> image::RgbImage {
    let png = scratch.path(&format!("{name}.png"));
    let flag = |name: &str, path: &Path| format!("--{name}={}", path.display());
    let output = Command::new(chromium)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--disable-dev-shm-usage", "--hide-scrollbars"])
        .arg(flag("user-data-dir", &scratch.path("profile")))
        .arg(flag("screenshot", &png))
        .arg(format!("--window-size={width},3000"))
        .arg(format!("file://{}", scratch.path("run/report.html").display()))
        .output()
        .expect("chromium starts");
    assert!(png.is_file(), "no screenshot: {}", String::from_utf8_lossy(&output.stderr));
    image::open(&png).expect("a PNG").to_rgb8()
}
