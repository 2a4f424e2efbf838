//! A sheet to draw on, in points, with a font that comes along.

use std::sync::Once;

use plotters::{
    coord::Shift,
    prelude::{
        BitMapBackend, Circle, Color, DrawingArea, DrawingBackend, FontStyle, FontTransform, IntoDrawingArea,
        IntoFont, PathElement, Polygon, RGBColor, SVGBackend, ShapeStyle, Text, TextStyle,
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

pub(super) const PAPER: RGBColor = RGBColor(255, 255, 255);
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
    text: TextUnits,
}

/// What the backend makes of a font of size 1. Found by looking at both.
struct TextUnits {
    /// The size it has to be given: that of a line, or of a glyph from the lowest to the highest.
    size: f64,
    /// How far its text hangs too high.
    rise: f64,
}

const SVG_TEXT: TextUnits = TextUnits {
    size: 1.24,
    rise: 0.0,
};
const PNG_TEXT: TextUnits = TextUnits {
    size: 1.164,
    rise: 0.12,
};

type Drawn = Result<(), PlotError>;

/// Draws as SVG.
pub(super) fn svg(draw: impl Fn(&Canvas<SVGBackend<'_>>) -> Drawn) -> Result<String, PlotError> {
    load_fonts();
    let mut text = String::new();
    let size = (WIDTH as u32 * FINE, HEIGHT as u32 * FINE);
    {
        let canvas = Canvas {
            area: SVGBackend::with_string(&mut text, size).into_drawing_area(),
            text: SVG_TEXT,
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
            text: PNG_TEXT,
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
        self.area.fill(&PAPER).map_err(failed)
    }

    pub(super) fn line(&self, points: &[(f64, f64)], color: RGBColor, opacity: f64, width: f64) -> Drawn {
        let points: Vec<(i32, i32)> = points.iter().map(|p| fine(*p)).collect();
        let line = PathElement::new(points, stroke(color.mix(opacity), width));
        self.area.draw(&line).map_err(failed)
    }

    /// Fills the inside of a ring of points.
    pub(super) fn area(&self, ring: &[(f64, f64)], color: RGBColor, opacity: f64) -> Drawn {
        if ring.is_empty() {
            return Ok(());
        }
        let ring: Vec<(i32, i32)> = ring.iter().map(|p| fine(*p)).collect();
        let area = Polygon::new(ring, color.mix(opacity).filled());
        self.area.draw(&area).map_err(failed)
    }

    pub(super) fn frame(&self, from: (f64, f64), to: (f64, f64), color: RGBColor) -> Drawn {
        let corners = [from, (to.0, from.1), to, (from.0, to.1), from];
        self.line(&corners, color, 1.0, 1.0)
    }

    pub(super) fn dot(&self, at: (f64, f64), radius: f64, color: RGBColor, opacity: f64) -> Drawn {
        let radius = (radius * f64::from(FINE)).round() as i32;
        let dot = Circle::new(fine(at), radius, color.mix(opacity).filled());
        self.area.draw(&dot).map_err(failed)
    }

    pub(super) fn cross(&self, (x, y): (f64, f64), radius: f64, color: RGBColor, opacity: f64) -> Drawn {
        let r = radius;
        self.line(&[(x - r, y - r), (x + r, y + r)], color, opacity, 1.3)?;
        self.line(&[(x - r, y + r), (x + r, y - r)], color, opacity, 1.3)
    }

    pub(super) fn diamond(&self, (x, y): (f64, f64), radius: f64, color: RGBColor) -> Drawn {
        let corners = |r: f64| [(x, y - r), (x + r, y), (x, y + r), (x - r, y)].map(fine);
        let rim = Polygon::new(corners(radius + 1.8), PAPER.filled());
        self.area.draw(&rim).map_err(failed)?;
        let diamond = Polygon::new(corners(radius), color.filled());
        self.area.draw(&diamond).map_err(failed)
    }

    pub(super) fn text(&self, text: &str, at: (f64, f64), font: Font, anchor: Anchor) -> Drawn {
        let style = self.style(font, anchor);
        let drop = self.text.rise * font.size;
        let at = match anchor {
            Anchor::Upward => (at.0 + drop, at.1),
            _ => (at.0, at.1 + drop),
        };
        self.area
            .draw(&Text::new(text.to_owned(), fine(at), style))
            .map_err(failed)
    }

    /// The width of a text in points.
    pub(super) fn text_width(&self, text: &str, font: Font) -> f64 {
        let (width, _) = self
            .area
            .estimate_text_size(text, &self.style(font, Anchor::Left))
            .unwrap_or_default();
        // the library measures as the bitmap draws
        f64::from(width) / f64::from(FINE) * PNG_TEXT.size / self.text.size
    }

    /// The text, its end left out where it is wider than `width`.
    pub(super) fn shorten(&self, text: &str, font: Font, width: f64) -> String {
        let mut shown = text.to_owned();
        let mut kept = text.chars().count();
        while kept > 0 && self.text_width(&shown, font) > width {
            kept -= 1;
            shown = text.chars().take(kept).chain(['…']).collect();
        }
        shown
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

    fn style(&self, font: Font, anchor: Anchor) -> TextStyle<'static> {
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
        let style = ("sans-serif", font.size * self.text.size * f64::from(FINE), face)
            .into_font()
            .color(&font.color)
            .pos(Pos::new(horizontal, VPos::Center));
        match anchor {
            Anchor::Upward => style.transform(FontTransform::Rotate270),
            _ => style,
        }
    }
}
