//! Small written values: sizes, thousandths, HTTP statuses. Durations and times are read in `domain::time`.

use crate::domain::retry::StatusSet;

use super::raw::{Node, Value};

/// Bytes of `64MiB`, `500KB`, `1024` or `1024B`. `None` for anything else and beyond 2^64.
pub(crate) fn size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let factor: u64 = match unit.trim_start() {
        "" | "B" => 1,
        "KB" | "kB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// A size as it would be written: `64MiB`.
pub(crate) fn show_size(bytes: u64) -> String {
    for (unit, factor) in [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes >= factor && bytes.is_multiple_of(factor) {
            return format!("{}{unit}", bytes / factor);
        }
    }
    bytes.to_string()
}

/// Thousandths of a decimal text: `2`, `2.0`, `0.125`. `None` for signs, exponents, more than three digits after the
/// point that are not zero, and beyond 2^32.
pub(crate) fn permille(text: &str) -> Option<u32> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction = fraction.trim_end_matches('0');
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || fraction.len() > 3 || !digits(whole) || !digits(fraction) {
        return None;
    }
    format!("{whole}{fraction:0<3}").parse().ok()
}

/// Thousandths as they would be written: `0.2`.
pub(crate) fn show_permille(permille: u32) -> String {
    let text = format!("{}.{:03}", permille / 1000, permille % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// One status or a range of them: `200`, `"200"`, `"200-204"`, within `bounds`.
fn status_range(node: &Node, bounds: (u16, u16)) -> Option<(u16, u16)> {
    let (from, to) = match &node.value {
        Value::Integer(status) => {
            let status = u16::try_from(*status).ok()?;
            (status, status)
        }
        Value::Text(text) => {
            let (from, to) = text.split_once('-').unwrap_or((text, text));
            (from.trim().parse().ok()?, to.trim().parse().ok()?)
        }
        Value::Float(_) | Value::Bool(_) | Value::Time(_) | Value::List(_) | Value::Table(_) => return None,
    };
    (bounds.0 <= from && from <= to && to <= bounds.1).then_some((from, to))
}

/// Statuses as one status, one range, or a list of both; the item that is none as `Err`.
pub(crate) fn statuses(node: &Node, bounds: (u16, u16)) -> Result<StatusSet, &Node> {
    let items = if let Value::List(items) = &node.value { items.as_slice() } else { std::slice::from_ref(node) };
    let ranges: Result<Vec<_>, _> = items.iter().map(|item| status_range(item, bounds).ok_or(item)).collect();
    ranges.map(StatusSet::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::raw;
    use std::path::Path;

    #[test]
    fn sizes_are_read_as_they_are_written() {
        for (text, bytes) in [("64MiB", 64 << 20), ("1GiB", 1 << 30), ("2KiB", 2048), ("77", 77)] {
            assert_eq!(size(text), Some(bytes), "{text}");
            assert_eq!(show_size(bytes), text);
        }
        assert_eq!(size("5 MB"), Some(5_000_000));
        for bad in ["", "MiB", "1.5MiB", "-1", "64mib", "99999999999999999999", "99999999999GiB"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    #[test]
    fn factors_never_pass_through_binary_floats() {
        for (text, wanted) in [("2", 2000), ("2.0", 2000), ("0.2", 200), ("1.125", 1125), ("0.1000", 100), ("0", 0)] {
            assert_eq!(permille(text), Some(wanted), "{text}");
        }
        assert_eq!((show_permille(200), show_permille(2000)), ("0.2".to_owned(), "2".to_owned()));
        for bad in ["", ".5", "-1", "+1", "1e3", "0.0001", "inf", "nan", "9999999999"] {
            assert_eq!(permille(bad), None, "{bad}");
        }
    }

    #[test]
    fn statuses_are_numbers_ranges_and_lists_of_both() {
        let read = |text: &str| {
            let tree = raw::parse(&format!("s = {text}"), Path::new("c")).unwrap_or_default();
            statuses(tree.get("s").unwrap(), (200, 599)).ok()
        };
        assert_eq!(read("200"), Some(StatusSet::new(vec![(200, 200)])));
        assert_eq!(read("\"200-204\""), Some(StatusSet::new(vec![(200, 204)])));
        assert_eq!(read("[200, \"202-204\"]"), Some(StatusSet::new(vec![(200, 200), (202, 204)])));
        for bad in ["600", "199", "\"204-200\"", "\"2xx\"", "true", "[[200]]", "\"\"", "200.0"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
