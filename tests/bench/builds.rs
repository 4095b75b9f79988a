//! The builds: every app, by every builder that is here.

use std::path::Path;
use std::time::Instant;

use crate::apps::{self, RUNS, Sizes};
use crate::peers::Peer;
use crate::report::{Report, median};
use crate::usage::Usage;

/// Seconds after which a build is not measured once more for a better median.
const PATIENCE: f64 = 3.0;

/// One app with what is measured of it.
struct Work {
    app: &'static str,
    title: &'static str,
    cold: Option<&'static str>,
    /// A rebuild with nothing changed, and one with one file changed.
    rebuild: Option<(&'static str, &'static str)>,
}

const WORKS: [Work; 5] = [
    Work { app: "runs", title: "20 RUN true, cold: a step", cold: Some("20 ms"), rebuild: None },
    Work { app: "b", title: "app b", cold: Some("2 times faster than BuildKit"), rebuild: Some(("30 times faster than BuildKit", "")) },
    Work { app: "files", title: "files", cold: None, rebuild: Some(("", "10 times faster than BuildKit")) },
    Work { app: "copies", title: "tiny COPY steps", cold: Some("5 times faster than BuildKit"), rebuild: Some(("", "")) },
    Work { app: "stages", title: "stages of RUN true", cold: Some("4 times faster than BuildKit"), rebuild: None },
];

/// The names of all apps.
pub fn names() -> impl Iterator<Item = &'static str> {
    WORKS.iter().map(|work| work.app)
}

/// Measures one app.
pub fn measure(app: &str, dir: &Path, sizes: Sizes, builders: &mut [Box<dyn Peer + '_>], report: &mut Report) {
    let Some(work) = WORKS.iter().find(|work| work.app == app) else { return };
    let title = match work.app {
        "files" => format!("{} files", sizes.files),
        "copies" => format!("{} tiny COPY steps", sizes.copy_stages * apps::COPIES),
        "stages" => format!("{} stages of RUN true", sizes.stages),
        _ => work.title.to_owned(),
    };
    apps::write_app(dir, app, sizes);
    let context = dir.join(app);
    for builder in builders.iter_mut() {
        let share = builder.share(app).min(sizes.copy_stages.max(1));
        if share > 1 {
            // A smaller one beside it, for whoever would take minutes.
            let part = dir.join("part");
            apps::write_app(&part, app, Sizes { copy_stages: sizes.copy_stages / share, files: sizes.files / share, stages: sizes.stages / share, ..sizes });
            work.measure(&title, &part.join(app), builder.as_mut(), share as f64, report);
        } else {
            work.measure(&title, &context, builder.as_mut(), 1.0, report);
        }
    }
    let _ = std::fs::remove_dir_all(context);
}

impl Work {
    fn measure(&self, title: &str, context: &Path, builder: &mut dyn Peer, times: f64, report: &mut Report) {
        let name = if times > 1.0 { format!("{} (1/{times} of it, times {times})", builder.name()) } else { builder.name() };
        let own = builder.name() == "strake";
        let target = move |text: &'static str| Some(text).filter(|text| own && !text.is_empty());
        // Whoever is first would otherwise wait for the disk to take what the bench itself has just written.
        rustix::fs::sync();
        let cold = builder.build(context, true);
        let mut all = vec![cold];
        if self.app == "runs" {
            report.add(title, &name, cold.seconds / f64::from(RUNS) * 1000.0, "ms", target(self.cold.unwrap_or("")));
        } else {
            report.add(&format!("{title}, cold"), &name, cold.seconds * times, "s", target(self.cold.unwrap_or("")));
        }
        if let Some((unchanged, changed)) = self.rebuild {
            let again = several(7, || builder.build(context, false));
            report.add(&format!("{title}, no-op rebuild"), &name, middle(&again) * times, "s", target(unchanged));
            all.extend(again);
            if self.app != "copies" {
                let again = several(3, || {
                    apps::touch_one(context);
                    builder.build(context, false)
                });
                report.add(&format!("{title}, one file changed"), &name, middle(&again) * times, "s", target(changed));
                all.extend(again);
            }
        }
        let peak = all.iter().map(|usage| usage.peak_mb).fold(0.0, f64::max);
        report.add(&format!("{title}, peak memory"), &name, peak, "MB", target("100 MB"));
    }
}

fn several(count: usize, mut build: impl FnMut() -> Usage) -> Vec<Usage> {
    let started = Instant::now();
    let mut found = Vec::new();
    while found.is_empty() || (found.len() < count && started.elapsed().as_secs_f64() < PATIENCE) {
        found.push(build());
    }
    found
}

fn middle(all: &[Usage]) -> f64 {
    median(all.iter().map(|usage| usage.seconds).collect())
}
