//! Inception-v3 up to its last pooling, as data.
//!
//! C. Szegedy et al., *Rethinking the Inception architecture for computer vision*, CVPR 2016, in the variant of the FID reference
//! implementation (M. Heusel et al., NeurIPS 2017; PyTorch port: pytorch-fid): the average pools of blocks A, C and the first
//! E leave the padding out of the mean, the second E pools by the maximum, and batch normalisation has ε = 1e-3. 94
//! convolutions, 21.8 million numbers, 5.7 billion multiplications for an image of 299 × 299.

/// Side of the images the network takes.
pub const SIDE: usize = 299;
/// Features of an image.
pub const FEATURES: usize = 2048;

/// A piece of the network; `U` is what stands for a convolution.
#[derive(Clone, Debug)]
pub enum Step<U> {
    /// Convolution, batch normalisation, `max(0, ·)`.
    Unit(U),
    /// Means over 3 × 3, stride 1, of the pixels that are there.
    Average,
    /// Largest of 3 × 3.
    Max {
        /// Stride.
        stride: usize,
        /// Padding, which is never the largest.
        padding: usize,
    },
    /// Branches on the same input; their channels one after the other.
    Fork(Vec<Vec<Step<U>>>),
}

/// A convolution without its numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitSpec {
    /// Its tensors' names begin with this and a dot.
    pub name: String,
    /// `[out, in, kernel height, kernel width]`.
    pub shape: [usize; 4],
    /// Stride in both directions.
    pub stride: usize,
    /// Zeros on either side, by direction.
    pub padding: [usize; 2],
}

impl UnitSpec {
    /// Names and shapes of its tensors: the convolution, then the scale, shift, mean and variance of its normalisation.
    pub fn tensors(&self) -> [(String, Vec<usize>); 5] {
        let named = |part: &str, shape: &[usize]| (format!("{}.{part}", self.name), shape.to_vec());
        let channels = &self.shape[..1];
        [
            named("conv.weight", &self.shape),
            named("bn.weight", channels),
            named("bn.bias", channels),
            named("bn.running_mean", channels),
            named("bn.running_var", channels),
        ]
    }
}

impl<U> Step<U> {
    /// The same network with every convolution replaced, in order.
    pub(super) fn try_map<V, E>(self, f: &mut impl FnMut(U) -> Result<V, E>) -> Result<Step<V>, E> {
        Ok(match self {
            Self::Unit(unit) => Step::Unit(f(unit)?),
            Self::Average => Step::Average,
            Self::Max { stride, padding } => Step::Max { stride, padding },
            Self::Fork(branches) => {
                let mut mapped = Vec::with_capacity(branches.len());
                for branch in branches {
                    mapped.push(branch.into_iter().map(|step| step.try_map(f)).collect::<Result<_, E>>()?);
                }
                Step::Fork(mapped)
            }
        })
    }
}

type Plan = Step<UnitSpec>;

/// The network: `[n, 3, 299, 299]` in `[−1, 1]` to `[n, 2048, 8, 8]`.
pub fn inception() -> Vec<Plan> {
    vec![
        valid("Conv2d_1a_3x3", 3, 32, 3, 2),
        valid("Conv2d_2a_3x3", 32, 32, 3, 1),
        same("Conv2d_2b_3x3", 32, 64, [3, 3]),
        Step::Max { stride: 2, padding: 0 },
        same("Conv2d_3b_1x1", 64, 80, [1, 1]),
        valid("Conv2d_4a_3x3", 80, 192, 3, 1),
        Step::Max { stride: 2, padding: 0 },
        a("Mixed_5b", 192, 32),
        a("Mixed_5c", 256, 64),
        a("Mixed_5d", 288, 64),
        b("Mixed_6a", 288),
        c("Mixed_6b", 768, 128),
        c("Mixed_6c", 768, 160),
        c("Mixed_6d", 768, 160),
        c("Mixed_6e", 768, 192),
        d("Mixed_7a", 768),
        e("Mixed_7b", 1280, Step::Average),
        e("Mixed_7c", 2048, Step::Max { stride: 1, padding: 1 }),
    ]
}

/// Every convolution of the network.
pub fn units() -> Vec<UnitSpec> {
    let mut units = Vec::new();
    for step in inception() {
        let visited: Result<Step<()>, std::convert::Infallible> = step.try_map(&mut |unit| {
            units.push(unit);
            Ok(())
        });
        let Ok(_) = visited;
    }
    units
}

/// Stride 1, as many pixels out as in.
fn same(name: &str, input: usize, output: usize, kernel: [usize; 2]) -> Plan {
    let padding = kernel.map(|side| side / 2);
    Step::Unit(UnitSpec {
        name: name.into(),
        shape: [output, input, kernel[0], kernel[1]],
        stride: 1,
        padding,
    })
}

/// No padding.
fn valid(name: &str, input: usize, output: usize, side: usize, stride: usize) -> Plan {
    Step::Unit(UnitSpec { name: name.into(), shape: [output, input, side, side], stride, padding: [0, 0] })
}

const POINT: [usize; 2] = [1, 1];
const SQUARE: [usize; 2] = [3, 3];

fn a(block: &str, input: usize, pool: usize) -> Plan {
    let name = |part: &str| format!("{block}.{part}");
    Step::Fork(vec![
        vec![same(&name("branch1x1"), input, 64, POINT)],
        vec![same(&name("branch5x5_1"), input, 48, POINT), same(&name("branch5x5_2"), 48, 64, [5, 5])],
        vec![
            same(&name("branch3x3dbl_1"), input, 64, POINT),
            same(&name("branch3x3dbl_2"), 64, 96, SQUARE),
            same(&name("branch3x3dbl_3"), 96, 96, SQUARE),
        ],
        vec![Step::Average, same(&name("branch_pool"), input, pool, POINT)],
    ])
}

fn b(block: &str, input: usize) -> Plan {
    let name = |part: &str| format!("{block}.{part}");
    Step::Fork(vec![
        vec![valid(&name("branch3x3"), input, 384, 3, 2)],
        vec![
            same(&name("branch3x3dbl_1"), input, 64, POINT),
            same(&name("branch3x3dbl_2"), 64, 96, SQUARE),
            valid(&name("branch3x3dbl_3"), 96, 96, 3, 2),
        ],
        vec![Step::Max { stride: 2, padding: 0 }],
    ])
}

fn c(block: &str, input: usize, inner: usize) -> Plan {
    let name = |part: &str| format!("{block}.{part}");
    let (row, column) = ([1, 7], [7, 1]);
    Step::Fork(vec![
        vec![same(&name("branch1x1"), input, 192, POINT)],
        vec![
            same(&name("branch7x7_1"), input, inner, POINT),
            same(&name("branch7x7_2"), inner, inner, row),
            same(&name("branch7x7_3"), inner, 192, column),
        ],
        vec![
            same(&name("branch7x7dbl_1"), input, inner, POINT),
            same(&name("branch7x7dbl_2"), inner, inner, column),
            same(&name("branch7x7dbl_3"), inner, inner, row),
            same(&name("branch7x7dbl_4"), inner, inner, column),
            same(&name("branch7x7dbl_5"), inner, 192, row),
        ],
        vec![Step::Average, same(&name("branch_pool"), input, 192, POINT)],
    ])
}

fn d(block: &str, input: usize) -> Plan {
    let name = |part: &str| format!("{block}.{part}");
    Step::Fork(vec![
        vec![same(&name("branch3x3_1"), input, 192, POINT), valid(&name("branch3x3_2"), 192, 320, 3, 2)],
        vec![
            same(&name("branch7x7x3_1"), input, 192, POINT),
            same(&name("branch7x7x3_2"), 192, 192, [1, 7]),
            same(&name("branch7x7x3_3"), 192, 192, [7, 1]),
            valid(&name("branch7x7x3_4"), 192, 192, 3, 2),
        ],
        vec![Step::Max { stride: 2, padding: 0 }],
    ])
}

fn e(block: &str, input: usize, pool: Plan) -> Plan {
    let name = |part: &str| format!("{block}.{part}");
    let split = |one: &str, other: &str| {
        Step::Fork(vec![vec![same(&name(one), 384, 384, [1, 3])], vec![same(&name(other), 384, 384, [3, 1])]])
    };
    Step::Fork(vec![
        vec![same(&name("branch1x1"), input, 320, POINT)],
        vec![same(&name("branch3x3_1"), input, 384, POINT), split("branch3x3_2a", "branch3x3_2b")],
        vec![
            same(&name("branch3x3dbl_1"), input, 448, POINT),
            same(&name("branch3x3dbl_2"), 448, 384, SQUARE),
            split("branch3x3dbl_3a", "branch3x3dbl_3b"),
        ],
        vec![pool, same(&name("branch_pool"), input, 192, POINT)],
    ])
}
