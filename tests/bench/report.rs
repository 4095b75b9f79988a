//! Figures by work and by who did it, with the ratio to strake's.

use std::fmt;

/// One line of the table.
struct Figure {
    work: String,
    who: String,
    value: f64,
    unit: &'static str,
    target: Option<String>,
}

/// All figures.
#[derive(Default)]
pub struct Report {
    figures: Vec<Figure>,
}

impl Report {
    /// Adds a figure; smaller is better.
    pub fn add(&mut self, work: &str, who: &str, value: f64, unit: &'static str, target: Option<&str>) {
        eprintln!("{work}: {who} {value:.4} {unit}");
        self.figures.push(Figure { work: work.to_owned(), who: who.to_owned(), value, unit, target: target.map(str::to_owned) });
    }
}

/// The middle of the times.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| work | who | figure | to strake's | target |\n|---|---|---|---|---|")?;
        let mut works: Vec<&str> = self.figures.iter().map(|figure| figure.work.as_str()).collect();
        works.dedup();
        let mut seen = std::collections::BTreeSet::new();
        for work in works.into_iter().filter(|work| seen.insert(work.to_string())) {
            let rows: Vec<&Figure> = self.figures.iter().filter(|figure| figure.work == work).collect();
            let own = rows.iter().find(|figure| figure.who == "strake").map(|figure| figure.value);
            for row in rows {
                let ratio = own.filter(|_| row.who != "strake").map(|own| format!("{:.1}x", row.value / own)).unwrap_or_default();
                writeln!(f, "| {work} | {} | {:.4} {} | {ratio} | {} |", row.who, row.value, row.unit, row.target.as_deref().unwrap_or_default())?;
            }
        }
        Ok(())
    }
}
