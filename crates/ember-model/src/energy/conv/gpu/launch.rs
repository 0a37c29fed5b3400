//! Sizes of launches.

use cubecl::CubeDim;
use cubecl::prelude::CubeCount;

use super::plan::Plan;

/// The most cubes along an axis.
const AXIS: usize = 65_535;

/// Columns and what lies across along x, rows along y and z: some cubes at the end may have none.
pub(super) fn cubes(plan: &Plan, n: usize) -> CubeCount {
    let rows = plan.row_cubes(n);
    let z = rows.div_ceil(AXIS);
    CubeCount::new_3d((plan.column_cubes() * plan.across(n)) as u32, rows.div_ceil(z) as u32, z as u32)
}

/// Threads of a cube.
pub(super) fn threads(plan: &Plan) -> CubeDim {
    CubeDim::new_1d(plan.tile.threads() as u32)
}
