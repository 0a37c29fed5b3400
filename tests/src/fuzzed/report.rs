//! The lines of a run folder, as `ember report` and `ember resume` read them.

use std::fs;

use ember_train::store::metrics::{self, MetricsWriter};
use ember_train::{training::watchdog, view::report as page};

use super::{Target, scratch};

/// After a byte: which file the rest is. 0, metrics.jsonl; 1, eval.jsonl; 2, events.jsonl; 3, config.toml; 4, state.json; 5, a picture.
pub(super) const REPORT: Target = Target {
    name: "report",
    run: report,
    seeds,
    words: &[
        "\"step\":",
        "\"time_s\":",
        "null",
        "1e308",
        "-1e308",
        "18446744073709551615",
        "5e-324",
        "}\n{",
        "\"log_z_audit\":{\"value\":",
        "\"standard_error\":",
        "\"mode_weights\":[",
        "\"reason\":",
        "\"log_z\":",
        "\"config\"",
        "[energy]\nkind=",
    ],
    most_bytes: 4096,
};

const FILES: [&str; 6] = [
    "metrics.jsonl",
    "eval.jsonl",
    "events.jsonl",
    "config.toml",
    "checkpoints/step_00000001/state.json",
    "samples/step_00000001.png",
];

const LINES: &str = concat!(
    r#"{"step":1,"time_s":0.1,"energy_data":1.0,"energy_walkers":1.5,"ess_fraction":0.9,"resamplings":0,"log_z_online":null,"distinct_ancestors":4,"#,
    r#""accept_rate":0.7,"grad_norm":2.0,"learning_rate":0.01,"walker_steps_per_s":1e5,"mode_weights":[0.3,0.7]}"#,
    "\n",
    r#"{"step":2,"time_s":0.2,"energy_data":1.0,"energy_walkers":1.1,"ess_fraction":0.5,"resamplings":1,"log_z_online":0.2,"distinct_ancestors":3,"#,
    r#""grad_norm":1.0,"learning_rate":0.01,"walker_steps_per_s":1e5,"log_z_audit":{"value":0.1,"standard_error":0.01}}"#,
    "\n"
);
const EVALUATION: &str = r#"{"step":2,"log_z":{"value":0.1,"standard_error":0.02},"log_z_source":"audit","masses":[0.2,0.8],"ess_fraction":0.4}"#;
const EVENT: &str = r#"{"step":2,"event":"rollback","to_step":1,"rollbacks":1,"learning_rate_scale":0.5,"reason":"energy is not finite"}"#;

fn report(bytes: &[u8]) {
    let Some((&number, content)) = bytes.split_first() else { return };
    let changed = usize::from(number) % FILES.len();
    scratch::within("report", |run| {
        for (i, name) in FILES.iter().enumerate() {
            let usual = usual(i);
            scratch::write(&run.join(name), if i == changed { content } else { &usual });
        }
        let out = run.join("report.html");
        if page::write(run, &out).is_ok() {
            let text = fs::read_to_string(&out).expect("UTF-8");
            assert!(text.ends_with("</html>\n"), "a whole page");
            assert!(changed != 0 || !text.contains("NaN"), "a number that is none");
        }
        // What `resume` cuts is as it was, or a file of whole lines.
        MetricsWriter::resume(run, 1).expect("cut");
        let lines = fs::read(run.join(metrics::METRICS)).expect("there");
        assert!(lines.is_empty() || lines.ends_with(b"\n"));
        let _ = metrics::read(run);
        let _ = watchdog::resume(run, 1);
        let _ = fs::remove_file(run.join("metrics.jsonl.dropped"));
    });
}

fn usual(file: usize) -> Vec<u8> {
    match file {
        0 => LINES.into(),
        1 => EVALUATION.into(),
        2 => EVENT.into(),
        3 => b"steps = 2\n[energy]\nkind = \"mlp\"\n".to_vec(),
        4 => b"{\"step\": 2}".to_vec(),
        _ => b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x08\0\0\0\x08".to_vec(),
    }
}

fn seeds() -> Vec<Vec<u8>> {
    (0..FILES.len()).map(|i| [vec![i as u8], usual(i)].concat()).collect()
}
