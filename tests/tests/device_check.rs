//! `ember devices --check`: the processor and the GPU path compute right, and a row that does not is found.

use ember_model::EnergyConfig;
use ember_tests::gpu;
use ember_train::bench::device_check::{self, Disturbance, Row};
use ember_train::device::{self, Selected};
use ember_train::training::objective::ObjectiveConfig;

fn checked(selected: &Selected, disturbance: Option<Disturbance<'_>>) -> Vec<Row> {
    device_check::run(selected, disturbance, &mut |row| print!("{}", device_check::line(row)))
}

#[track_caller]
fn assert_right(selected: &Selected) {
    let rows = checked(selected, None);
    // A new kind of energy or objective needs an example, or users of a new card never learn that it is wrong there.
    let energies = EnergyConfig::KINDS.iter().map(|kind| format!("{kind}: ∂θ"));
    let objectives = ObjectiveConfig::KINDS.iter().map(|kind| format!("3 updates, {kind}"));
    for what in energies.chain(objectives) {
        assert!(rows.iter().any(|row| row.what == what), "no row `{what}`");
    }
    device_check::verdict(selected, &rows).expect("every row is right");
    assert_eq!(device_check::to_json(selected, &rows)["ok"], true);
}

#[test]
fn the_processor_computes_right() {
    assert_right(&device::select("flex").expect("a processor"));
}

#[test]
fn the_gpu_path_computes_right() {
    if gpu().is_some() {
        assert_right(&device::select("wgpu").expect("it is there"));
    }
}

/// Whatever row is off by a hundredth of its largest number, that row is off and no other, and the verdict names it.
#[test]
fn a_row_that_is_off_is_found() {
    let selected = device::select("flex").expect("a processor");
    let names: Vec<String> = checked(&selected, None).into_iter().map(|row| row.what).collect();
    let kinds = [
        "uniform",
        "normals",
        "f32 product",
        "mlp: U",
        "mlp, 1000 rows",
        "ancestors, residual",
        "a MALA",
        "3 updates, jarz",
    ];
    for kind in kinds {
        let rows = checked(&selected, Some(Disturbance { row: kind, by: 0.01 }));
        for (name, row) in names.iter().zip(&rows) {
            assert_eq!(row.is_ok(), !name.starts_with(kind), "{kind}: {row:?}");
        }
        assert!(rows.iter().any(|row| !row.is_ok()), "{kind}");
        let error = device_check::verdict(&selected, &rows).expect_err("a row is off");
        assert_eq!(error.exit_code(), 1);
        for word in [kind, "flex", "driver", "report this table"] {
            assert!(error.to_string().contains(word), "no `{word}` in {error}");
        }
        assert_eq!(device_check::to_json(&selected, &rows)["ok"], false);
    }
}

/// A number that is none is no small difference.
#[test]
fn a_number_that_is_not_finite_is_off() {
    let selected = device::select("flex").expect("a processor");
    let rows = checked(&selected, Some(Disturbance { row: "normals", by: f32::NAN }));
    let off: Vec<&Row> = rows.iter().filter(|row| !row.is_ok()).collect();
    assert_eq!(off.len(), 1);
    assert_eq!((off[0].what.as_str(), off[0].error), ("normals", f64::INFINITY));
}
