//! "Did you mean": the candidate nearest to a misspelt name.

/// The candidate with the fewest edits (insert, delete, replace, swap of neighbours; case costs nothing) from `name`, when there are at most two
/// and fewer than the name has characters. Ties go to the first candidate.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted: Vec<char> = name.to_lowercase().chars().collect();
    // A third of the letters: half of a short word would make it another one.
    let limit = (wanted.len().max(3) / 3).min(2).min(wanted.len().saturating_sub(1));
    let scored = candidates.into_iter().map(|candidate| {
        let chars: Vec<char> = candidate.to_lowercase().chars().collect();
        (distance(&wanted, &chars), candidate)
    });
    scored.filter(|(edits, _)| *edits <= limit).min_by_key(|(edits, _)| *edits).map(|(_, candidate)| candidate)
}

/// Optimal string alignment distance.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut current = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replace = previous[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            current[j] = replace.min(previous[j] + 1).min(current[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                current[j] = current[j].min(before[j - 2] + 1);
            }
        }
        before = previous;
        previous = current;
    }
    previous[b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_the_nearest_within_two_edits() {
        let names = ["containers", "initContainers", "replicas"];
        assert_eq!(nearest("containes", names), Some("containers"));
        assert_eq!(nearest("REPLICSA", names), Some("replicas"));
        assert_eq!(nearest("volumes", names), None);
        assert_eq!(nearest("x", ["y"]), None);
    }
}
