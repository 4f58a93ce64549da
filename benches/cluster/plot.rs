//! Charts, as SVG in `target/bench/`.

use std::fs;
use std::ops::Range;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

const SIZE: (u32, u32) = (760, 420);
const FONT: &str = "sans-serif";

/// One line of a chart.
#[derive(Debug)]
pub struct Series {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

impl Series {
    pub fn new(name: String) -> Series {
        Series { name, points: Vec::new() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    Linear,
    Log,
}

/// What a chart shows; the axes with their units.
#[derive(Clone, Copy, Debug)]
pub struct Chart {
    pub title: &'static str,
    pub x: (&'static str, Scale),
    pub y: (&'static str, Scale),
}

impl Chart {
    /// Writes `NAME.svg`.
    pub fn write(&self, name: &str, series: &[Series]) -> Result<()> {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
        let dir = target.join("bench");
        fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        let path = dir.join(name).with_extension("svg");
        let (x, y) = (range(series, |point| point.0, self.x.1), range(series, |point| point.1, self.y.1));
        let drawn = match (self.x.1, self.y.1) {
            (Scale::Linear, Scale::Linear) => self.draw(&path, series, x, y),
            (Scale::Log, Scale::Linear) => self.draw(&path, series, x.log_scale(), y),
            (Scale::Linear, Scale::Log) => self.draw(&path, series, x, y.log_scale()),
            (Scale::Log, Scale::Log) => self.draw(&path, series, x.log_scale(), y.log_scale()),
        };
        drawn.with_context(|| format!("drawing {}", path.display()))?;
        println!("drawn: {}", path.display());
        Ok(())
    }

    fn draw<X, Y>(&self, path: &std::path::Path, series: &[Series], x: X, y: Y) -> Result<()>
    where
        X: AsRangedCoord<Value = f64, CoordDescType: ValueFormatter<f64>>,
        Y: AsRangedCoord<Value = f64, CoordDescType: ValueFormatter<f64>>,
    {
        let root = SVGBackend::new(path, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .caption(self.title, (FONT, 18))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d(x, y)?;
        chart.configure_mesh().x_desc(self.x.0).y_desc(self.y.0).light_line_style(TRANSPARENT).draw()?;
        for (index, Series { name, points }) in series.iter().enumerate() {
            let color = Palette99::pick(index).to_rgba();
            chart
                .draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
            chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, color.filled())))?;
        }
        let mut legend = chart.configure_series_labels();
        legend.position(SeriesLabelPosition::UpperLeft).background_style(WHITE.mix(0.8));
        legend.border_style(BLACK.mix(0.3)).draw()?;
        Ok(root.present()?)
    }
}

/// What the axis spans: from zero, or from the least, with room at the end.
fn range(series: &[Series], of: impl Fn(&(f64, f64)) -> f64, scale: Scale) -> Range<f64> {
    let values = || series.iter().flat_map(|series| &series.points).map(&of);
    let most = values().fold(1.0, f64::max);
    match scale {
        Scale::Linear => 0.0..most * 1.08,
        Scale::Log => values().fold(most, f64::min).max(1.0) * 0.9..most * 1.3,
    }
}
