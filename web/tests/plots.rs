//! The pictures, from plain data.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use spaces::{Objective, metric};
use web::plots::{FrontPlot, HypervolumePlot, PlotPoint, Standing};

fn objective(name: &str) -> Objective {
    Objective::from(metric(name).unwrap())
}

fn point(x: f64, y: f64, standing: Standing) -> PlotPoint {
    PlotPoint {
        x,
        y,
        spread: (None, None),
        standing,
    }
}

fn front() -> FrontPlot {
    let mut points = vec![
        point(1.2e5, 2.6, Standing::OnFront),
        point(3.1e5, 2.1, Standing::OnFront),
        point(9.4e5, 1.9, Standing::OnFront),
        point(8.0e6, 1.82, Standing::OnFront),
        point(4.0e5, 2.5, Standing::Dominated),
        point(2.0e6, 2.2, Standing::Dominated),
        point(2.5e7, 1.81, Standing::Infeasible),
    ];
    points[1].spread = (None, Some(0.05));
    FrontPlot {
        title: "shakespeare <b>: 4 of 7 results on the front".into(),
        notes: vec!["inference_flops_per_token is analytic, validation_loss is measured".into()],
        axes: [
            objective("inference_flops_per_token"),
            objective("validation_loss"),
        ],
        points,
        knee: Some((3.1e5, 2.1, 17)),
        joined: true,
    }
}

#[test]
fn a_front_is_drawn_as_agreed() {
    let svg = front().svg().unwrap();
    assert!(
        svg.starts_with("<svg width=\"960\" height=\"600\" viewBox=\"0 0 3840 2400\""),
        "{}",
        &svg[..120]
    );
    assert!(svg.contains("shakespeare &lt;b&gt;"), "names are escaped");
    insta::assert_snapshot!(svg);
}

#[test]
fn every_point_lies_within_the_frame() {
    for (x, y) in [
        ("model_bytes", "accuracy"),
        ("energy_j_per_token", "validation_loss"),
    ] {
        let mut plot = front();
        plot.axes = [objective(x), objective(y)];
        let svg = plot.svg().unwrap();
        for circle in svg.split("<circle ").skip(1) {
            let value = |key: &str| {
                let (_, rest) = circle.split_once(&format!("{key}=\"")).unwrap();
                rest.split('"').next().unwrap().parse::<f64>().unwrap() / 4.0
            };
            let (cx, cy) = (value("cx"), value("cy"));
            assert!(
                (84.0..=932.0).contains(&cx) && (40.0..=560.0).contains(&cy),
                "{cx} {cy}"
            );
        }
    }
}

#[test]
fn a_long_title_stays_on_the_sheet() {
    let plot = FrontPlot {
        title: "W".repeat(200),
        ..front()
    };
    let svg = plot.svg().unwrap();
    let title = svg.lines().find(|line| line.starts_with("WWW")).unwrap();
    assert!(title.ends_with('…') && title.len() < 80, "{title}");
}

#[test]
fn a_picture_of_nothing_says_so() {
    let plot = FrontPlot {
        points: vec![],
        knee: None,
        ..front()
    };
    assert!(
        plot.svg()
            .unwrap()
            .contains("no trial has a value of both objectives yet")
    );
    assert!(!plot.png().unwrap().is_empty());
    let volume = HypervolumePlot {
        title: "empty".into(),
        note: "no result yet".into(),
        points: vec![],
        results: 0.0,
    };
    assert!(volume.svg().unwrap().contains("no trial keeps the limits yet"));
}

#[test]
fn a_hypervolume_is_drawn_as_agreed() {
    let plot = HypervolumePlot {
        title: "shakespeare: hypervolume by trial".into(),
        note: "up to the reference point model_bytes 4.3e6, validation_loss 3.2".into(),
        points: vec![(1.0, 0.4), (2.0, 1.1), (7.0, 1.6), (19.0, 1.65)],
        results: 64.0,
    };
    insta::assert_snapshot!(plot.svg().unwrap());
    if let Ok(folder) = std::env::var("PLOTS") {
        std::fs::write(format!("{folder}/volume.png"), plot.png().unwrap()).unwrap();
    }
}

/// Two pixels for a point, drawn dark where the accent's dots are.
#[test]
fn a_png_can_be_read_back() {
    let bytes = front().png().unwrap();
    let mut reader = png::Decoder::new(std::io::Cursor::new(&bytes))
        .read_info()
        .unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!((info.width, info.height), (1920, 1200));
    let blue = pixels.chunks_exact(3).filter(|p| p == &[0, 114, 178]).count();
    assert!(blue > 200, "only {blue} pixels of the front's colour");
    let white = pixels.chunks_exact(3).filter(|p| p == &[255, 255, 255]).count();
    assert!(white > pixels.len() / 3 * 8 / 10);
    if let Ok(folder) = std::env::var("PLOTS") {
        std::fs::write(format!("{folder}/front.png"), &bytes).unwrap();
    }
}
