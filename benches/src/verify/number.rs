//! Numbers as a reader finds them in a line of text.

/// A number, with its standard error where one is written beside it, and the size of its last digit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number {
    /// The value.
    pub value: f64,
    /// What stands behind `±`.
    pub standard_error: Option<f64>,
    /// One of its last digit.
    pub last_digit: f64,
}

/// All numbers of a text, in order: `.75`, `−8.6`, `1e-3`, `1.3·10⁻⁶`, `.0033 ± .0010`. A digit inside a word is none: the 2 of `mlp2d`.
pub fn numbers(text: &str) -> Vec<Number> {
    let chars: Vec<char> = text.chars().collect();
    let mut found: Vec<Number> = Vec::new();
    let (mut at, mut is_error) = (0, false);
    while at < chars.len() {
        let in_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
        match plain(&chars[at..]).filter(|_| !in_word) {
            Some((value, last_digit, len)) => {
                at += len;
                match (is_error, found.last_mut()) {
                    (true, Some(number)) => number.standard_error = Some(value),
                    _ => found.push(Number { value, standard_error: None, last_digit }),
                }
                is_error = false;
            }
            None => {
                is_error = chars[at] == '±' || is_error && chars[at] == ' ';
                at += 1;
            }
        }
    }
    found
}

/// The number that a text begins with: value, one of its last digit, characters.
fn plain(chars: &[char]) -> Option<(f64, f64, usize)> {
    let signed = usize::from(matches!(chars.first()?, '-' | '−' | '+'));
    let digits =
        |from: usize| chars[from.min(chars.len())..].iter().take_while(|c| c.is_ascii_digit()).count();
    let whole = digits(signed);
    let mut end = signed + whole;
    let mut decimals = 0;
    if chars.get(end) == Some(&'.') {
        decimals = digits(end + 1);
        end += if decimals > 0 { decimals + 1 } else { 0 };
    }
    if whole + decimals == 0 {
        return None;
    }
    let mantissa: String = chars[signed..end].iter().collect();
    let mut exponent = 0i32;
    let (sign, tail) = match (chars.get(end), chars.get(end + 1)) {
        (Some('e'), Some('-')) => (-1, 2),
        (Some('e'), Some('+')) => (1, 2),
        _ => (1, 1),
    };
    if chars.get(end) == Some(&'e') && digits(end + tail) > 0 {
        let len = digits(end + tail);
        exponent =
            sign * chars[end + tail..end + tail + len].iter().collect::<String>().parse::<i32>().ok()?;
        end += tail + len;
    } else if chars[end..].starts_with(&['·', '1', '0']) {
        let raised: String = chars[end + 3..].iter().map_while(|&c| superscript(c)).collect();
        if let Ok(power) = raised.parse() {
            exponent = power;
            end += 3 + raised.len();
        }
    }
    let scale = 10f64.powi(exponent);
    let value =
        mantissa.parse::<f64>().ok()? * scale * if matches!(chars[0], '-' | '−') { -1.0 } else { 1.0 };
    Some((value, scale * 10f64.powi(-(decimals as i32)), end))
}

fn superscript(c: char) -> Option<char> {
    let at = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻".chars().position(|s| s == c)?;
    "0123456789-".chars().nth(at)
}

#[cfg(test)]
mod tests {
    use super::{Number, numbers};

    #[test]
    fn numbers_are_read_as_they_are_written() {
        let read = |text: &str| numbers(text).iter().map(|n| (n.value, n.standard_error)).collect::<Vec<_>>();
        assert_eq!(read(".0033 ± .0010"), [(0.0033, Some(0.001))]);
        assert_eq!(read("−8.6 and -7, 1e-3"), [(-8.6, None), (-7.0, None), (0.001, None)]);
        assert_eq!(read("worst 1.3·10⁻⁶ of mlp2d, 4 s.e."), [(1.3e-6, None), (4.0, None)]);
        assert_eq!(read("(-0.6919, 0.0009)"), [(-0.6919, None), (0.0009, None)]);
        assert_eq!(read("no number. 10⁵ is ten and a power"), [(10.0, None)]);
        assert_eq!(read("+.0007 ±.0008"), [(0.0007, Some(0.0008))]);
        assert_eq!(numbers("1.30e-6"), [Number { value: 1.3e-6, standard_error: None, last_digit: 1e-8 }]);
    }
}
