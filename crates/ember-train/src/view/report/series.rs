//! Points of a curve, and fewer of them that look the same.

/// Most points of one drawn line.
pub const MOST_POINTS: usize = 2_000;

/// More points than this are noise to the eye: their means are drawn over them.
const CALM: usize = 400;
/// Means of such a curve.
const MEANS: usize = 150;

/// A point of a curve; a `y` that is not finite breaks the line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// The update.
    pub x: f64,
    /// The value.
    pub y: f64,
    /// Half the width of the band around the value; 0 draws none.
    pub half: f64,
}

/// At most [`MOST_POINTS`] of the points: the lowest and the highest of each of equally many consecutive ones, so that no
/// excursion is lost. Fewer points are left as they are.
pub fn thin(points: &[Point]) -> Vec<Point> {
    if points.len() <= MOST_POINTS {
        return points.to_vec();
    }
    let buckets = MOST_POINTS / 2;
    let mut thinned = Vec::with_capacity(MOST_POINTS);
    for bucket in 0..buckets {
        let range = bucket * points.len() / buckets..(bucket + 1) * points.len() / buckets;
        let finite = || points[range.clone()].iter().enumerate().filter(|(_, point)| point.y.is_finite());
        let low = finite().min_by(|a, b| a.1.y.total_cmp(&b.1.y));
        let high = finite().max_by(|a, b| a.1.y.total_cmp(&b.1.y));
        match (low, high) {
            (Some((i, low)), Some((j, high))) if i != j => {
                thinned.extend(if i < j { [*low, *high] } else { [*high, *low] });
            }
            (Some((_, only)), _) => thinned.push(*only),
            // Nothing finite: the line breaks here.
            _ => thinned.push(points[range.start]),
        }
    }
    thinned
}

/// Means of equally many consecutive points, where there are so many points that they hide the course; else none.
pub(super) fn means(points: &[Point]) -> Vec<Point> {
    if points.len() <= CALM {
        return Vec::new();
    }
    let bucket = |i: usize| &points[i * points.len() / MEANS..(i + 1) * points.len() / MEANS];
    let mean = |points: &[Point]| {
        let finite = || points.iter().filter(|point| point.y.is_finite());
        let count = finite().count() as f64;
        // 0/0 breaks the line where nothing is finite.
        let y = finite().map(|point| point.y).sum::<f64>() / count;
        Point { x: points.iter().map(|point| point.x).sum::<f64>() / points.len() as f64, y, half: 0.0 }
    };
    (0..MEANS).map(|i| mean(bucket(i))).collect()
}
