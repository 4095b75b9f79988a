//! What a pull shows: one bar on a terminal, a line a blob elsewhere.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressStyle};
use strake_oci::Digest;
use strake_registry::Progress;

use crate::output::{note, size};

/// Blobs on their way.
pub struct Arriving {
    bar: Option<ProgressBar>,
    lines: bool,
    arrived: Mutex<HashMap<Digest, u64>>,
}

impl Arriving {
    /// For this terminal, or for none.
    pub fn new(quiet: bool) -> Arriving {
        let terminal = std::io::stderr().is_terminal();
        let style = || ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}").ok();
        let bar = (terminal && !quiet).then(|| match style() {
            Some(style) => ProgressBar::new(0).with_style(style).with_message("pulling"),
            None => ProgressBar::new(0),
        });
        Arriving { bar, lines: !terminal && !quiet, arrived: Mutex::default() }
    }

    /// Shows what happened.
    pub fn show(&self, event: &Progress) {
        let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Progress::Resolved { total_bytes, .. } => {
                if let Some(bar) = &self.bar {
                    bar.set_length(*total_bytes);
                }
            }
            Progress::Blob { digest, done_bytes, .. } => {
                arrived.insert(*digest, *done_bytes);
            }
            Progress::Complete { digest, fetched } if self.lines => {
                let bytes = arrived.get(digest).copied().unwrap_or(0);
                note(if *fetched { format!("{}  {}  arrived", digest.short(), size(bytes)) } else { format!("{}  is here", digest.short()) });
            }
            _ => {}
        }
        if let Some(bar) = &self.bar {
            bar.set_position(arrived.values().sum());
        }
    }

    /// Takes the bar away.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
