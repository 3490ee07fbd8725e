//! Curves as bars in an SVG: a row of panels for each figure, by a measure of its own, and a column for each curve.

use std::fmt::Write as _;
use std::path::PathBuf;

/// How figures change along one thing that grows: the name of each step and its figures, in order.
#[derive(Debug)]
pub struct Curve {
    pub title: String,
    pub steps: Vec<(String, Vec<f64>)>,
}

const PANEL: (f64, f64) = (260.0, 60.0);
/// What a panel's title, values and names take.
const WORDS: f64 = 52.0;
const BAR: f64 = 44.0;

/// Writes `target/bench/growth.svg` with a row for each of `figures`; where it lies.
pub fn draw(figures: &[&str], curves: &[Curve]) -> String {
    let (width, height) = (PANEL.0 * curves.len() as f64, (PANEL.1 + WORDS) * figures.len() as f64);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (row, figure) in figures.iter().enumerate() {
        let values = curves.iter().flat_map(|curve| &curve.steps).map(|(_, values)| values[row]);
        let most = values.fold(f64::MIN_POSITIVE, f64::max);
        for (column, curve) in curves.iter().enumerate() {
            let (left, top) = (PANEL.0 * column as f64 + 10.0, (PANEL.1 + WORDS) * row as f64);
            text(&mut svg, (left, top + 14.0), "start", &format!("{figure} by {}", curve.title));
            let foot = top + WORDS - 16.0 + PANEL.1;
            for (place, (name, values)) in curve.steps.iter().enumerate() {
                let bar = (left + (BAR + 10.0) * place as f64, PANEL.1 * values[row] / most);
                column_of(&mut svg, bar, foot, (name, values[row]));
            }
        }
    }
    svg += "</svg>\n";
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench").join("growth.svg");
    std::fs::write(&path, svg).expect("a writable target directory");
    path.display().to_string()
}

fn column_of(svg: &mut String, (x, height): (f64, f64), foot: f64, (name, value): (&str, f64)) {
    let (top, middle) = (foot - height, x + BAR / 2.0);
    writeln!(svg, "<rect x=\"{x}\" y=\"{top:.1}\" width=\"{BAR}\" height=\"{height:.1}\" fill=\"#4477aa\"/>")
        .expect("a text");
    text(svg, (middle, top - 3.0), "middle", &format!("{value:.0}"));
    text(svg, (middle, foot + 12.0), "middle", name);
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) {
    writeln!(svg, "<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>").expect("a text");
}
