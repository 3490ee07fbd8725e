//! Numbers as people say them in a message of one line.

use crate::domain::time::DurationMs;

/// `5m`, `2h 10m`, `3d 4h`: the two greatest units.
pub(super) fn span(span: DurationMs) -> String {
    let seconds = span.0 / 1000;
    let units = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];
    let first = units.iter().position(|(_, size)| seconds >= *size).unwrap_or(3);
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (unit, size) in units.iter().skip(first).take(2) {
        if rest >= *size || parts.is_empty() {
            parts.push(format!("{}{unit}", rest / size));
        }
        rest %= size;
    }
    parts.join(" ")
}

/// `93%`.
pub(super) fn percent(share: f64) -> String {
    format!("{:.0}%", (share * 100.0).floor())
}

/// `1.5 GiB`.
pub(super) fn bytes(count: u64) -> String {
    let mut unit = 0_usize;
    let mut tenths = u128::from(count) * 10;
    while tenths >= 10_240 && unit < 4 {
        tenths /= 1024;
        unit += 1;
    }
    let name = ["B", "KiB", "MiB", "GiB", "TiB"].get(unit).copied().unwrap_or("TiB");
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

/// `1 event`, `2 events`.
pub(super) fn count(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// `delivery` has a plural of its own.
pub(super) fn deliveries(number: u64) -> String {
    if number == 1 { "1 delivery".to_owned() } else { format!("{number} deliveries") }
}
