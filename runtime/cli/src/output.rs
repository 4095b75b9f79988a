//! Printing: the one place that writes to stdout and stderr.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, OnceLock, PoisonError};

use serde::Serialize;

use crate::args::Format;

/// The first thing that went wrong with stdout.
static LOST: OnceLock<io::Error> = OnceLock::new();

/// What must not be seen, the longest first.
static CONCEALED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Hides values wherever messages for people would show them: progress, errors, logs of what does not start. Short ones are part of too many words.
pub fn conceal(values: impl Iterator<Item = String>) {
    const SHORTEST: usize = 6;
    let mut all = CONCEALED.lock().unwrap_or_else(PoisonError::into_inner);
    for value in values {
        let lines = value.lines().map(str::trim).filter(|line| line.len() >= SHORTEST);
        let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, value.as_bytes());
        let more: Vec<String> = lines.map(str::to_owned).chain((value.len() >= SHORTEST).then_some(encoded)).filter(|text| !all.contains(text)).collect();
        all.extend(more);
    }
    all.sort_by_key(|value| std::cmp::Reverse(value.len()));
}

/// A text without what must not be seen.
pub fn without_secrets(text: &str) -> String {
    let all = CONCEALED.lock().unwrap_or_else(PoisonError::into_inner);
    all.iter().fold(text.to_owned(), |text, value| if text.contains(value.as_str()) { text.replace(value.as_str(), strake_source::CONCEALED) } else { text })
}

/// The values that must not be seen, for those who can hide them better.
pub fn secrets() -> Vec<String> {
    CONCEALED.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Why what was said did not arrive. Nobody reading on (`| head`) is no failure.
pub fn lost() -> Option<&'static io::Error> {
    LOST.get().filter(|error| error.kind() != io::ErrorKind::BrokenPipe)
}

/// Whether nobody reads stdout any more: what would go on for ever ends then.
pub fn closed() -> bool {
    LOST.get().is_some()
}

fn keep(written: io::Result<()>) {
    if let Err(error) = written {
        let _ = LOST.set(error);
    }
}

/// Writes text to stdout. What cannot be written is told at the end, by [`lost`].
pub fn say(text: impl std::fmt::Display) {
    let mut out = io::stdout().lock();
    keep(writeln!(out, "{text}"));
}

/// Writes text to stdout without a line end.
pub fn raw(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    keep(out.write_all(bytes).and_then(|()| out.flush()));
}

/// Writes bytes to stderr as they are.
pub fn error_bytes(bytes: &[u8]) {
    let mut out = std::io::stderr().lock();
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}

/// Writes a line to stderr: progress and warnings.
pub fn note(text: impl std::fmt::Display) {
    let text = without_secrets(&text.to_string());
    let mut out = std::io::stderr().lock();
    let _ = writeln!(out, "{text}");
}

/// Colours that vanish where there is no terminal (or NO_COLOR is set).
#[derive(Clone, Copy, Debug)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// For stderr.
    pub fn stderr() -> Paint {
        Paint { on: std::io::stderr().is_terminal() && wanted() }
    }

    /// For stdout.
    pub fn stdout() -> Paint {
        Paint { on: std::io::stdout().is_terminal() && wanted() }
    }

    /// True when colours are on.
    pub fn is_on(self) -> bool {
        self.on
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Errors.
    pub fn red(self, text: &str) -> String {
        self.wrap("1;31", text)
    }

    /// A heading.
    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// What is done.
    pub fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// What is on its way.
    pub fn yellow(self, text: &str) -> String {
        self.wrap("33", text)
    }

    /// What matters less.
    pub fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }
}

fn wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Columns aligned with three spaces between them, as kubectl prints. The last column is not padded.
pub fn table<C: AsRef<str>>(header: &[&str], rows: &[Vec<C>]) -> String {
    let mut columns = Columns::default();
    columns.fit(header);
    rows.iter().for_each(|row| columns.fit(row));
    let mut lines = vec![columns.line(header)];
    lines.extend(rows.iter().map(|row| columns.line(row)));
    lines.join("\n")
}

/// The widths of a table's columns: kept, later lines stand below earlier ones.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    widths: Vec<usize>,
}

impl Columns {
    /// Makes room for a row.
    pub fn fit<C: AsRef<str>>(&mut self, cells: &[C]) {
        self.widths.resize(self.widths.len().max(cells.len()), 0);
        for (width, cell) in self.widths.iter_mut().zip(cells) {
            *width = (*width).max(cell.as_ref().chars().count());
        }
    }

    /// A row as a line.
    pub fn line<C: AsRef<str>>(&self, cells: &[C]) -> String {
        let last = cells.len().saturating_sub(1);
        let width = |column: usize| if column == last { 0 } else { self.widths.get(column).copied().unwrap_or(0) + 3 };
        let text: String = cells.iter().enumerate().map(|(column, cell)| format!("{:<width$}", cell.as_ref(), width = width(column))).collect();
        text.trim_end().to_owned()
    }
}

/// A value as JSON or YAML; `Text` is the caller's business and prints JSON here.
pub fn data(value: &impl Serialize, format: Format) -> String {
    match format {
        Format::Yaml => serde_yaml::to_string(value).unwrap_or_default().trim_end().to_owned(),
        Format::Json | Format::Text => serde_json::to_string_pretty(value).unwrap_or_default(),
    }
}

/// `1.4 MB`: decimal units, as docker prints.
pub fn size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else if value < 10.0 {
        format!("{value:.1} {}", units[unit])
    } else {
        format!("{value:.0} {}", units[unit])
    }
}

/// `3d4h`, `5m10s`, `12s`: as kubectl shows ages.
pub fn age(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 if seconds % 60 != 0 => format!("{minutes}m{}s", seconds % 60),
        120..10_800 => format!("{minutes}m"),
        10_800..28_800 if minutes % 60 != 0 => format!("{hours}h{}m", minutes % 60),
        10_800..172_800 => format!("{hours}h"),
        172_800..691_200 if hours % 24 != 0 => format!("{days}d{}h", hours % 24),
        _ => format!("{days}d"),
    }
}

/// `1 object`, `2 objects`.
pub fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// `0.3s`, `1m12s`.
pub fn took(time: std::time::Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 0.1 {
        format!("{}ms", time.as_millis())
    } else if seconds < 60.0 {
        format!("{seconds:.1}s")
    } else {
        format!("{}m{}s", time.as_secs() / 60, time.as_secs() % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::{age, size, table};

    #[test]
    fn columns_align_and_lines_end_clean() {
        let rows = vec![vec!["a".to_owned(), "1".to_owned()], vec!["longer".to_owned(), String::new()]];
        assert_eq!(table(&["NAME", "N"], &rows), "NAME     N\na        1\nlonger");
    }

    #[test]
    fn sizes_and_ages_read_as_people_expect() {
        assert_eq!([size(999), size(1400), size(125_000_000)], ["999 B", "1.4 kB", "125 MB"]);
        assert_eq!([age(5), age(310), age(7200), age(90_000), age(800_000)], ["5s", "5m10s", "120m", "25h", "9d"]);
    }
}
