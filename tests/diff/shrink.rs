//! A case that shows a difference, made as small as it stays one.

use crate::case::Case;

/// The smallest case that `differs` still says something about, trying at most `tries` others; with what was said.
pub fn shrink(case: Case, said: Vec<String>, tries: usize, mut differs: impl FnMut(&Case) -> Vec<String>) -> (Case, Vec<String>) {
    let (mut best, mut words, mut left) = (case, said, tries);
    'again: loop {
        for smaller in best.smaller() {
            if left == 0 {
                return (best, words);
            }
            left -= 1;
            let said = differs(&smaller);
            // Another difference would lead elsewhere: the first line must be of the same kind.
            if said.first().map(|line| kind(line)) == words.first().map(|line| kind(line)) {
                (best, words) = (smaller, said);
                continue 'again;
            }
        }
        return (best, words);
    }
}

/// What a difference is about, without its particulars.
pub fn kind(line: &str) -> String {
    let sides: Vec<&str> = line.splitn(2, ": ").collect();
    let what = if line.starts_with('/') { sides.get(1).copied().unwrap_or_default() } else { line };
    let words = what.split_whitespace().filter(|word| !word.contains(['/', '"', ':']) || word.ends_with(':'));
    words.take(4).collect::<Vec<_>>().join(" ")
}
