//! `--progress`.

use clap::ValueEnum;

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Progress {
    /// A live view on a terminal, plain lines elsewhere
    Auto,
    /// A live view
    Tty,
    /// A line an event
    Plain,
    /// A JSON object a line
    Json,
    /// Nothing
    Quiet,
}

/// `--progress` of `strake build`: other programs read BuildKit's own JSON, and are not to take strake's for it.
pub fn progress(word: &str) -> Result<Progress, String> {
    match word {
        "rawjson" => Err("BuildKit's stream of status documents is not written; --progress json is strake's own, an object a line".to_owned()),
        "none" => Ok(Progress::Quiet),
        word => <Progress as ValueEnum>::from_str(word, false).map_err(|_| "expected auto, tty, plain, json, quiet or none".to_owned()),
    }
}
