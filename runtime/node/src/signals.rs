//! Signals by name, as an image's STOPSIGNAL gives them.

/// SIGTERM.
pub(crate) const TERM: i32 = 15;
/// SIGKILL.
pub(crate) const KILL: i32 = 9;

const NAMES: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];
const REAL_TIME_FIRST: i32 = 34;
const REAL_TIME_LAST: i32 = 64;

/// The number of `SIGQUIT`, `quit`, `3` or `SIGRTMIN+3`.
pub(crate) fn number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=REAL_TIME_LAST).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(""), _) => Some(REAL_TIME_FIRST),
        (Some(offset), _) => offset.strip_prefix('+')?.parse::<i32>().ok()?.checked_add(REAL_TIME_FIRST),
        (_, Some("")) => Some(REAL_TIME_LAST),
        (_, Some(offset)) => REAL_TIME_LAST.checked_sub(offset.strip_prefix('-')?.parse().ok()?),
        _ => None,
    };
    real_time
        .filter(|number| (REAL_TIME_FIRST..=REAL_TIME_LAST).contains(number))
        .or_else(|| NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number))
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn every_way_to_write_one() {
        let table = [
            ("SIGQUIT", Some(3)),
            ("quit", Some(3)),
            ("3", Some(3)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("", None),
            ("SIGNO", None),
            ("0", None),
        ];
        for (text, expected) in table {
            assert_eq!(number(text), expected, "{text}");
        }
    }
}
