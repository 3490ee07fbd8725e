//! Curves as bars in an SVG: one panel each, all by the same measure.

use std::fmt::Write as _;
use std::path::PathBuf;

/// Values with their names, in order.
#[derive(Debug)]
pub struct Curve {
    pub title: String,
    pub points: Vec<(String, f64)>,
}

const PANEL: (f64, f64) = (240.0, 180.0);
const BAR: f64 = 44.0;

/// Writes `target/bench/growth.svg`; where it lies.
pub fn draw(curves: &[Curve]) -> String {
    let most = curves.iter().flat_map(|curve| &curve.points).map(|(_, value)| *value).fold(1.0, f64::max);
    let width = PANEL.0 * curves.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        PANEL.1 + 60.0
    );
    for (place, curve) in curves.iter().enumerate() {
        panel(&mut svg, PANEL.0 * place as f64, curve, most);
    }
    svg += "</svg>\n";
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench").join("growth.svg");
    std::fs::write(&path, svg).expect("a writable target directory");
    path.display().to_string()
}

fn panel(svg: &mut String, left: f64, Curve { title, points }: &Curve, most: f64) {
    let foot = PANEL.1 + 30.0;
    writeln!(svg, "<text x=\"{}\" y=\"18\" font-weight=\"bold\">{title}</text>", left + 10.0).expect("a text");
    for (place, (name, value)) in points.iter().enumerate() {
        let (x, height) = (left + 10.0 + (BAR + 10.0) * place as f64, PANEL.1 * value / most);
        let (top, middle) = (foot - height, x + BAR / 2.0);
        writeln!(svg, "<rect x=\"{x}\" y=\"{top:.1}\" width=\"{BAR}\" height=\"{height:.1}\" fill=\"#4477aa\"/>")
            .expect("a text");
        writeln!(svg, "<text x=\"{middle}\" y=\"{:.1}\" text-anchor=\"middle\">{value:.0}</text>", top - 4.0)
            .expect("a text");
        writeln!(svg, "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{name}</text>", foot + 16.0)
            .expect("a text");
    }
}
