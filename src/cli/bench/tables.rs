//! The results as tables for people and as rows for spreadsheets.

use super::{
    quality::Quality,
    speed::{PointsTime, Speed},
    timed::Cost,
};
use crate::output::{right, table};

/// Median and quartiles by problem and method, and the mean of the medians where there are several problems.
pub(super) fn quality_table(rows: &[Quality]) -> String {
    let after: Vec<usize> = rows
        .first()
        .map_or(vec![], |r| r.after.iter().map(|q| q.evaluations).collect());
    let columns = after.iter().map(|n| format!("after {n}"));
    let mut sheet = table(
        ["problem", "method"]
            .map(String::from)
            .into_iter()
            .chain(columns)
            .chain(["p", "CPU ms", "wall ms"].map(String::from)),
    );
    let mut problem = "";
    for row in rows {
        // a problem is named once, at its first method
        let name = if row.problem == problem { "" } else { row.problem };
        problem = row.problem;
        let mut cells = vec![name.to_owned(), row.method.to_owned()];
        cells.extend(
            row.after
                .iter()
                .map(|q| format!("{:.3} ({:.3} to {:.3})", q.median, q.lower, q.upper)),
        );
        cells.push(
            row.p_first_is_better
                .map_or_else(String::new, |p| format!("{p:.3}")),
        );
        cells.extend([ms(row.proposal.cpu_ms), ms(row.proposal.wall_ms)]);
        sheet.add_row(cells);
    }
    for (i, mean) in means(rows).into_iter().enumerate() {
        let name = if i == 0 { "mean of all" } else { "" };
        let mut cells = vec![name.to_owned(), mean.0.to_owned()];
        cells.extend(mean.1.iter().map(|v| format!("{v:.3}")));
        sheet.add_row(cells);
    }
    right(&mut sheet, 2..after.len() + 5);
    let first = rows.first().map_or("the first method", |r| r.method);
    let seeds = rows.first().map_or(0, |r| r.seeds);
    format!(
        "Normalised hypervolume: median (quartiles) of {seeds} seeds, 1 is the whole front\n{sheet}\np: chance that \
         {first} would be this much better, or more, if there were no difference (Mann-Whitney, one-sided, exact)\nCPU \
         and wall ms: of a proposal, mean over the study"
    )
}

/// For each method the means of its medians over the problems; none of a single problem.
pub(super) fn means(rows: &[Quality]) -> Vec<(&'static str, Vec<f64>)> {
    let mut methods: Vec<&'static str> = vec![];
    for row in rows {
        if !methods.contains(&row.method) {
            methods.push(row.method);
        }
    }
    if rows.len() == methods.len() {
        return vec![];
    }
    let mean = |method: &'static str| {
        let own: Vec<&Quality> = rows.iter().filter(|r| r.method == method).collect();
        let at = |i: usize| own.iter().map(|r| r.after[i].median).sum::<f64>() / own.len() as f64;
        (method, (0..own[0].after.len()).map(at).collect())
    };
    methods.into_iter().map(mean).collect()
}

/// The times of proposals, hypervolumes and ranking.
pub(super) fn speed_tables(speed: &Speed) -> String {
    let mut proposals = table([
        "method",
        "trials",
        "first CPU ms",
        "first wall ms",
        "next CPU ms",
        "next wall ms",
    ]);
    for p in &speed.proposals {
        proposals.add_row([
            p.method.to_owned(),
            p.trials.to_string(),
            ms(p.first.cpu_ms),
            ms(p.first.wall_ms),
            ms(p.next.cpu_ms),
            ms(p.next.wall_ms),
        ]);
    }
    right(&mut proposals, 1..6);
    format!(
        "Time of a proposal: 20 parameters, 4 objectives; the first of a new sampler, and each next one\n{proposals}\n\n\
         Time of a hypervolume: points that do not dominate each other\n{}\n\nTime of ranking into fronts: uniform \
         points\n{}",
        points_table(&speed.hypervolume),
        points_table(&speed.ranking)
    )
}

fn points_table(rows: &[PointsTime]) -> String {
    let mut sheet = table(["objectives", "points", "CPU ms", "wall ms"]);
    for row in rows {
        let cost = |pick: fn(Cost) -> f64| row.cost.map_or_else(|| "left out".to_owned(), |c| ms(pick(c)));
        sheet.add_row([
            row.objectives.to_string(),
            row.points.to_string(),
            cost(|c| c.cpu_ms),
            cost(|c| c.wall_ms),
        ]);
    }
    right(&mut sheet, 0..4);
    sheet.to_string()
}

/// Milliseconds to three digits.
fn ms(value: f64) -> String {
    let digits = if value > 0.0 {
        (2 - value.log10().floor() as i32).clamp(0, 6)
    } else {
        0
    };
    format!("{value:.*}", digits as usize)
}

/// One value a row: what was measured, on what, by which method, at which size.
pub(super) fn csv(quality: &[Quality], speed: Option<&Speed>) -> String {
    let mut text = "measure,subject,method,size,statistic,value\n".to_owned();
    let mut row = |measure: &str, subject: &str, method: &str, size: usize, statistic: &str, value: f64| {
        text += &format!("{measure},{subject},{method},{size},{statistic},{value}\n");
    };
    for q in quality {
        for at in &q.after {
            for (statistic, value) in [("lower", at.lower), ("median", at.median), ("upper", at.upper)] {
                row("quality", q.problem, q.method, at.evaluations, statistic, value);
            }
        }
        let trials = q.after.last().map_or(0, |at| at.evaluations);
        if let Some(p) = q.p_first_is_better {
            row("quality", q.problem, q.method, trials, "p_first_is_better", p);
        }
        for (statistic, value) in [("cpu_ms", q.proposal.cpu_ms), ("wall_ms", q.proposal.wall_ms)] {
            row("study_proposal", q.problem, q.method, trials, statistic, value);
        }
    }
    let Some(speed) = speed else { return text };
    for p in &speed.proposals {
        for (which, cost) in [("first", p.first), ("next", p.next)] {
            row(
                "proposal",
                which,
                p.method,
                p.trials as usize,
                "cpu_ms",
                cost.cpu_ms,
            );
            row(
                "proposal",
                which,
                p.method,
                p.trials as usize,
                "wall_ms",
                cost.wall_ms,
            );
        }
    }
    for (measure, rows) in [("hypervolume", &speed.hypervolume), ("ranking", &speed.ranking)] {
        for p in rows {
            if let Some(cost) = p.cost {
                let subject = format!("{} objectives", p.objectives);
                row(measure, &subject, "", p.points, "cpu_ms", cost.cpu_ms);
                row(measure, &subject, "", p.points, "wall_ms", cost.wall_ms);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::quality::Quartiles;

    fn rows() -> Vec<Quality> {
        let row = |problem, method, median: f64, p| Quality {
            problem,
            method,
            seeds: 3,
            after: vec![Quartiles {
                evaluations: 25,
                lower: median - 0.1,
                median,
                upper: median + 0.1,
            }],
            proposal: Cost {
                cpu_ms: 0.01234,
                wall_ms: 123.4,
            },
            p_first_is_better: p,
            curve: vec![],
        };
        vec![
            row("zdt1", "auto", 0.9, None),
            row("zdt1", "random", 0.5, Some(0.05)),
            row("tower", "auto", 0.7, None),
            row("tower", "random", 0.3, Some(0.01)),
        ]
    }

    #[test]
    fn tables_name_each_problem_once_and_sum_up() {
        let text = quality_table(&rows());
        assert_eq!(text.matches("zdt1").count(), 1);
        assert!(text.contains("0.900 (0.800 to 1.000)") && text.contains("0.050") && text.contains("0.0123"));
        assert!(text.contains("chance that auto would be"), "{text}");
        let means = means(&rows());
        assert!((means[0].1[0] - 0.8).abs() < 1e-12 && (means[1].1[0] - 0.4).abs() < 1e-12);
        assert!(super::means(&rows()[..2]).is_empty());
    }

    #[test]
    fn spreadsheets_get_one_value_a_row() {
        let text = csv(&rows(), None);
        assert!(text.contains("quality,zdt1,auto,25,median,0.9\n"), "{text}");
        assert!(text.contains("quality,tower,random,25,p_first_is_better,0.01\n"));
        assert!(text.lines().all(|l| l.split(',').count() == 6));
    }
}
