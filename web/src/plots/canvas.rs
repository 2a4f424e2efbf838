//! A sheet to draw on, in points, with a font that comes along.

use std::sync::Once;

use plotters::{
    coord::Shift,
    prelude::{
        BitMapBackend, Circle, Color, DrawingArea, DrawingBackend, FontStyle, FontTransform, IntoDrawingArea,
        IntoFont, PathElement, Polygon, RGBColor, Rectangle, SVGBackend, ShapeStyle, Text, TextStyle,
    },
    style::{
        RGBAColor, register_font,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::PlotError;

/// Size of every picture in points.
pub(super) const WIDTH: f64 = 960.0;
pub(super) const HEIGHT: f64 = 600.0;
/// Pixels of the grid for a point, and how many of them become one pixel of a PNG.
const FINE: u32 = 4;
const AVERAGED: u32 = 2;

pub(super) const INK: RGBColor = RGBColor(32, 36, 42);
pub(super) const MUTED: RGBColor = RGBColor(95, 104, 115);
pub(super) const GRID: RGBColor = RGBColor(228, 231, 235);
pub(super) const ACCENT: RGBColor = RGBColor(0, 114, 178);
pub(super) const FADED: RGBColor = RGBColor(150, 158, 168);
pub(super) const WARNING: RGBColor = RGBColor(213, 94, 0);

/// Where a text hangs.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Left,
    Center,
    Right,
    /// Centred, turned to be read from the right.
    Upward,
}

/// How a text looks.
#[derive(Clone, Copy)]
pub(super) struct Font {
    pub(super) size: f64,
    pub(super) color: RGBColor,
    pub(super) bold: bool,
}

/// A sheet of `WIDTH` by `HEIGHT` points.
pub(super) struct Canvas<B: DrawingBackend> {
    area: DrawingArea<B, Shift>,
}

type Drawn = Result<(), PlotError>;

/// Draws as SVG.
pub(super) fn svg(draw: impl Fn(&Canvas<SVGBackend<'_>>) -> Drawn) -> Result<String, PlotError> {
    load_fonts();
    let mut text = String::new();
    let size = (WIDTH as u32 * FINE, HEIGHT as u32 * FINE);
    {
        let canvas = Canvas {
            area: SVGBackend::with_string(&mut text, size).into_drawing_area(),
        };
        canvas.clear()?;
        draw(&canvas)?;
        canvas.area.present().map_err(failed)?;
    }
    // the grid remains the view box; the size is that of the sheet
    let fine = format!("width=\"{}\" height=\"{}\"", size.0, size.1);
    Ok(text.replacen(&fine, &format!("width=\"{WIDTH}\" height=\"{HEIGHT}\""), 1))
}

/// Draws as PNG, two pixels for a point.
pub(super) fn png(draw: impl Fn(&Canvas<BitMapBackend<'_>>) -> Drawn) -> Result<Vec<u8>, PlotError> {
    load_fonts();
    let (width, height) = (WIDTH as u32 * FINE, HEIGHT as u32 * FINE);
    let mut pixels = vec![0; (width * height * 3) as usize];
    {
        let canvas = Canvas {
            area: BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area(),
        };
        canvas.clear()?;
        draw(&canvas)?;
        canvas.area.present().map_err(failed)?;
    }
    let pixels = averaged(&pixels, width as usize);
    encode(&pixels, width / AVERAGED, height / AVERAGED).map_err(failed)
}

fn encode(pixels: &[u8], width: u32, height: u32) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = vec![];
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(bytes)
}

/// Each square of pixels becomes its mean: the library draws most shapes without smooth edges.
fn averaged(pixels: &[u8], width: usize) -> Vec<u8> {
    let n = AVERAGED as usize;
    let rows = pixels.chunks_exact(width * 3 * n);
    let mut small = Vec::with_capacity(pixels.len() / (n * n));
    for rows in rows {
        for column in (0..width).step_by(n) {
            for channel in 0..3 {
                let square = (0..n * n).map(|i| rows[((i / n) * width + column + i % n) * 3 + channel]);
                small.push((square.map(usize::from).sum::<usize>() / (n * n)) as u8);
            }
        }
    }
    small
}

fn load_fonts() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let fonts = [
            (FontStyle::Normal, dejavu::sans::regular()),
            (FontStyle::Bold, dejavu::sans::bold()),
        ];
        for (style, bytes) in fonts {
            // the error is only a marker; a missing font shows in every test that draws
            let _ = register_font("sans-serif", style, bytes);
        }
    });
}

fn failed(e: impl std::fmt::Display) -> PlotError {
    PlotError::Drawing(e.to_string())
}

fn fine((x, y): (f64, f64)) -> (i32, i32) {
    let fine = |v: f64| (v * f64::from(FINE)).round() as i32;
    (fine(x), fine(y))
}

fn stroke(color: RGBAColor, width: f64) -> ShapeStyle {
    color.stroke_width((width * f64::from(FINE)).round() as u32)
}

impl<B: DrawingBackend> Canvas<B> {
    fn clear(&self) -> Drawn {
        self.area.fill(&RGBColor(255, 255, 255)).map_err(failed)
    }

    pub(super) fn line(&self, points: &[(f64, f64)], color: RGBColor, opacity: f64, width: f64) -> Drawn {
        let points: Vec<(i32, i32)> = points.iter().map(|p| fine(*p)).collect();
        let line = PathElement::new(points, stroke(color.mix(opacity), width));
        self.area.draw(&line).map_err(failed)
    }

    pub(super) fn frame(&self, from: (f64, f64), to: (f64, f64), color: RGBColor) -> Drawn {
        let frame = Rectangle::new([fine(from), fine(to)], stroke(color.to_rgba(), 1.0));
        self.area.draw(&frame).map_err(failed)
    }

    /// A dot with a rim of the paper's colour, so that neighbours stay apart.
    pub(super) fn dot(&self, at: (f64, f64), radius: f64, color: RGBColor, opacity: f64) -> Drawn {
        let size = |r: f64| (r * f64::from(FINE)).round() as i32;
        let rim = RGBColor(255, 255, 255).mix(opacity).filled();
        self.area
            .draw(&Circle::new(fine(at), size(radius + 0.8), rim))
            .map_err(failed)?;
        let dot = Circle::new(fine(at), size(radius), color.mix(opacity).filled());
        self.area.draw(&dot).map_err(failed)
    }

    pub(super) fn cross(&self, (x, y): (f64, f64), radius: f64, color: RGBColor, opacity: f64) -> Drawn {
        let r = radius;
        self.line(&[(x - r, y - r), (x + r, y + r)], color, opacity, 1.3)?;
        self.line(&[(x - r, y + r), (x + r, y - r)], color, opacity, 1.3)
    }

    pub(super) fn diamond(&self, (x, y): (f64, f64), radius: f64, color: RGBColor) -> Drawn {
        let corners = |r: f64| [(x, y - r), (x + r, y), (x, y + r), (x - r, y)].map(fine);
        let rim = Polygon::new(corners(radius + 1.8), RGBColor(255, 255, 255).filled());
        self.area.draw(&rim).map_err(failed)?;
        let diamond = Polygon::new(corners(radius), color.filled());
        self.area.draw(&diamond).map_err(failed)
    }

    pub(super) fn text(&self, text: &str, at: (f64, f64), font: Font, anchor: Anchor) -> Drawn {
        let style = style(font, anchor);
        self.area
            .draw(&Text::new(text.to_owned(), fine(at), style))
            .map_err(failed)
    }

    /// The width of a text in points.
    pub(super) fn text_width(&self, text: &str, font: Font) -> f64 {
        let (width, _) = self
            .area
            .estimate_text_size(text, &style(font, Anchor::Left))
            .unwrap_or_default();
        f64::from(width) / f64::from(FINE)
    }

    /// The text in lines that are no wider than `width`; a word that is remains whole.
    pub(super) fn wrap(&self, text: &str, font: Font, width: f64) -> Vec<String> {
        let mut lines: Vec<String> = vec![];
        for word in text.split_whitespace() {
            match lines.last_mut() {
                Some(line) if self.text_width(&format!("{line} {word}"), font) <= width => {
                    line.push(' ');
                    line.push_str(word);
                }
                _ => lines.push(word.to_owned()),
            }
        }
        lines
    }
}

fn style(font: Font, anchor: Anchor) -> TextStyle<'static> {
    let face = if font.bold {
        FontStyle::Bold
    } else {
        FontStyle::Normal
    };
    let horizontal = match anchor {
        Anchor::Left => HPos::Left,
        Anchor::Center | Anchor::Upward => HPos::Center,
        Anchor::Right => HPos::Right,
    };
    // the library means the height of a line by size
    let style = ("sans-serif", font.size * 1.24 * f64::from(FINE), face)
        .into_font()
        .color(&font.color)
        .pos(Pos::new(horizontal, VPos::Center));
    match anchor {
        Anchor::Upward => style.transform(FontTransform::Rotate270),
        _ => style,
    }
}
