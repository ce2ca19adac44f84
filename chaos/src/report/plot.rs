//! Plots over time, as SVG. All of a run share one scale of time, with the faults drawn in.

use std::fmt::Write as _;

use super::escape::Escaped;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 22.0;
/// Lanes of labels above the time line.
const LANE: f64 = 18.0;
/// Half of the width of a letter of a label, roughly: for labels that would leave the picture.
const LETTER: f64 = 6.2;

/// The time of a run, in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    pub(super) end: f64,
}

/// Something that lasted.
#[derive(Clone, Debug)]
pub(super) struct Band {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) label: String,
}

/// A line of a plot; where there is no value, it is broken.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) label: String,
    /// Of the page's palette.
    pub(super) color: usize,
    pub(super) dashed: bool,
    pub(super) points: Vec<(f64, Option<f64>)>,
}

impl Axis {
    fn x(self, at: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * at.clamp(0.0, self.end) / self.end
    }

    /// Seconds at which there is a tick: some ten of them.
    fn ticks(self) -> impl Iterator<Item = f64> {
        let step = nice(self.end / 10.0).max(1.0);
        let count = (self.end / step).floor() as u32;
        (0..=count).map(move |nth| f64::from(nth) * step)
    }
}

/// The next of 1, 2 and 5 and their tens.
fn nice(at_least: f64) -> f64 {
    let ten = 10_f64.powf(at_least.max(1e-9).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * ten);
    // Ten times the power of ten below it is above it.
    steps
        .into_iter()
        .find(|step| *step >= at_least)
        .unwrap_or(10.0 * ten)
}

/// A time line: a bar with its label for each band.
pub(super) fn time_line(axis: Axis, bands: &[Band]) -> String {
    let height = TOP + LANE * bands.len().max(1) as f64 + BOTTOM;
    let mut svg = open(height, "time line of the faults");
    time_axis(&mut svg, axis, height);
    for (nth, band) in bands.iter().enumerate() {
        let y = TOP + LANE * nth as f64;
        let (from, to) = (axis.x(band.from), axis.x(band.to));
        // Behind the bar; before it where there is no room behind.
        let length = band.label.chars().count() as f64 * LETTER;
        let (x, anchor, class) = if to + 6.0 + length < WIDTH {
            (to + 6.0, "start", "beside")
        } else if from - 6.0 - length > LEFT {
            (from - 6.0, "end", "beside")
        } else {
            (from + 4.0, "start", "inside")
        };
        let _ = write!(
            svg,
            "<rect class=\"bar\" x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>\
             <text class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            y + 3.0,
            (to - from).max(2.0),
            LANE - 6.0,
            y + LANE - 5.0,
            Escaped(&band.label),
        );
    }
    svg + "</svg>"
}

/// Lines over time, above shaded bands.
pub(super) fn plot(axis: Axis, bands: &[Band], title: &str, lines: &[Line]) -> String {
    let height = 180.0;
    let values = lines.iter().flat_map(|line| &line.points);
    let most = values.filter_map(|(_, value)| *value).fold(0.0, f64::max);
    let step = nice(most.max(1e-3) / 4.0);
    let top = step * (most / step).ceil().max(1.0);
    let y = |value: f64| height - BOTTOM - (height - TOP - BOTTOM) * (value / top).clamp(0.0, 1.0);
    let mut svg = open(height, title);
    for band in bands {
        let (from, to) = (axis.x(band.from), axis.x(band.to));
        let _ = write!(
            svg,
            "<rect class=\"band\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\">\
             <title>{}</title></rect>",
            (to - from).max(1.0),
            height - TOP - BOTTOM,
            Escaped(&band.label),
        );
    }
    time_axis(&mut svg, axis, height);
    let ticks = (top / step).round() as u32;
    for nth in 0..=ticks {
        let value = f64::from(nth) * step;
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{1:.1}\" y2=\"{1:.1}\"/>\
             <text x=\"{2:.1}\" y=\"{3:.1}\" text-anchor=\"end\">{4}</text>",
            WIDTH - RIGHT,
            y(value),
            LEFT - 6.0,
            y(value) + 4.0,
            rounded(value),
        );
    }
    for line in lines {
        draw(&mut svg, line, |at| axis.x(at), y);
    }
    svg + "</svg>"
}

fn draw(svg: &mut String, line: &Line, x: impl Fn(f64) -> f64, y: impl Fn(f64) -> f64) {
    let mut path = String::new();
    let mut pen = 'M';
    for (at, value) in &line.points {
        match value {
            Some(value) => {
                let _ = write!(path, "{pen}{:.1} {:.1}", x(*at), y(*value));
                pen = 'L';
            }
            None => pen = 'M',
        }
    }
    let dashes = if line.dashed { " dashed" } else { "" };
    let _ = write!(
        svg,
        "<path class=\"line c{}{dashes}\" d=\"{path}\"><title>{}</title></path>",
        line.color,
        Escaped(&line.label)
    );
}

/// Names of lines, in their colours.
pub(super) fn legend(lines: &[Line]) -> String {
    let mut html = String::from("<p class=\"legend\">");
    for line in lines {
        let dashes = if line.dashed { " dashed" } else { "" };
        let _ = write!(
            html,
            "<span><svg width=\"26\" height=\"10\" aria-hidden=\"true\"><path class=\"line c{}{dashes}\" \
             d=\"M0 5L26 5\"/></svg> {}</span> ",
            line.color,
            Escaped(&line.label)
        );
    }
    html + "</p>"
}

fn open(height: f64, title: &str) -> String {
    format!(
        "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">",
        Escaped(title)
    )
}

fn time_axis(svg: &mut String, axis: Axis, height: f64) {
    let y = height - BOTTOM;
    let _ = write!(
        svg,
        "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
        WIDTH - RIGHT
    );
    for at in axis.ticks() {
        let x = axis.x(at);
        let _ = write!(
            svg,
            "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{y:.1}\" y2=\"{:.1}\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{} s</text>",
            y + 4.0,
            y + 16.0,
            rounded(at),
        );
    }
}

/// Without the noise of binary fractions.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_have_round_numbers() {
        for (at_least, expected) in [
            (0.3, 0.5),
            (1.0, 1.0),
            (1.1, 2.0),
            (7.0, 10.0),
            (230.0, 500.0),
        ] {
            assert!((nice(at_least) - expected).abs() < 1e-9, "{at_least}");
        }
        let ticks: Vec<f64> = Axis { end: 25.0 }.ticks().collect();
        assert_eq!(ticks.len(), 6, "{ticks:?}");
    }

    #[test]
    fn a_line_is_broken_where_there_is_no_value() {
        let line = Line {
            label: "eu <1>".to_owned(),
            color: 0,
            dashed: false,
            points: vec![
                (0.0, Some(1.0)),
                (1.0, None),
                (2.0, Some(2.0)),
                (3.0, Some(1.0)),
            ],
        };
        let svg = plot(Axis { end: 3.0 }, &[], "a plot", &[line]);
        let path = svg
            .split(" d=\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        assert_eq!(path.matches('M').count(), 2, "{path}");
        assert_eq!(path.matches('L').count(), 1, "{path}");
        assert!(svg.contains("eu &lt;1&gt;"), "{svg}");
    }
}
