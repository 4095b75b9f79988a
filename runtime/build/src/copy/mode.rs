//! `--chmod`: octal, or symbolic as chmod(1) reads it (POSIX `chmod`, "extended description").

/// A change of permission bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModeChange {
    /// These bits, whatever was there.
    Octal(u32),
    /// Clauses, applied in order.
    Symbolic(Vec<Clause>),
}

/// `who`, an operator, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clause {
    /// Bits that the clause may touch: of user, group, others.
    who: u32,
    operator: Operator,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Set,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// `rwxst` as bits for all three classes; `conditional` is `X`.
    Bits { bits: u32, conditional: bool },
    /// The permissions of another class: the shift that brings it to the lowest three bits.
    Class { shift: u32 },
}

const USER: u32 = 0o4700;
const GROUP: u32 = 0o2070;
const OTHERS: u32 = 0o0007;
const STICKY: u32 = 0o1000;

impl ModeChange {
    /// Reads the flag's value; empty text is no change.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        if text.is_empty() {
            return Ok(None);
        }
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            return match u32::from_str_radix(text, 8) {
                Ok(mode) if mode <= 0o7777 => Ok(Some(ModeChange::Octal(mode))),
                _ => Err(format!("invalid --chmod `{text}`: expected an octal number between 0 and 07777")),
            };
        }
        let mut clauses = Vec::new();
        for part in text.split(',') {
            parse_part(part, &mut clauses).ok_or_else(|| format!("invalid --chmod `{text}`: expected an octal number or clauses such as u=rwX,go-w"))?;
        }
        Ok(Some(ModeChange::Symbolic(clauses)))
    }

    /// The bits after the change.
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            ModeChange::Octal(octal) => *octal,
            ModeChange::Symbolic(clauses) => clauses.iter().fold(mode & 0o7777, |mode, clause| clause.apply(mode, is_dir)),
        }
    }

    /// The bits of directories that a copy makes on the way to its destination: BuildKit makes them with the octal bits and a umask of 022.
    pub fn of_parents(change: Option<&ModeChange>) -> u32 {
        match change {
            Some(ModeChange::Octal(mode)) => *mode & 0o755,
            Some(ModeChange::Symbolic(_)) | None => 0o755,
        }
    }
}

impl Clause {
    fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        let bits = match self.what {
            What::Bits { bits, conditional } => {
                let executes = conditional && (is_dir || mode & 0o111 != 0);
                bits | if executes { 0o111 } else { 0 }
            }
            What::Class { shift } => {
                let class = (mode >> shift) & 0o7;
                class | class << 3 | class << 6
            }
        };
        let bits = bits & self.who;
        match self.operator {
            Operator::Add => mode | bits,
            Operator::Remove => mode & !bits,
            // As BuildKit: the sticky bit is set by `=`, but never cleared by it; and another class's permissions replace permissions only.
            Operator::Set => {
                let replaced = if matches!(self.what, What::Class { .. }) { 0o777 } else { !STICKY };
                (mode & !(self.who & replaced)) | bits
            }
        }
    }
}

fn parse_part(part: &str, clauses: &mut Vec<Clause>) -> Option<()> {
    let operators = ['+', '-', '='];
    let begin = part.find(operators)?;
    let mut who = 0;
    for class in part[..begin].chars() {
        who |= match class {
            'u' => USER,
            'g' => GROUP,
            'o' => OTHERS,
            'a' => USER | GROUP | OTHERS,
            _ => return None,
        };
    }
    let who = if begin == 0 { USER | GROUP | OTHERS } else { who };
    // `o+t` changes nothing in BuildKit; `u+t`, `g+t` and `+t` do.
    let who = if who & (USER | GROUP) == 0 { who } else { who | STICKY };
    let mut rest = &part[begin..];
    while let Some(first) = rest.chars().next() {
        let operator = match first {
            '+' => Operator::Add,
            '-' => Operator::Remove,
            '=' => Operator::Set,
            _ => return None,
        };
        let end = rest[1..].find(operators).map_or(rest.len(), |end| end + 1);
        clauses.push(Clause { who, operator, what: parse_what(&rest[1..end])? });
        rest = &rest[end..];
    }
    Some(())
}

fn parse_what(text: &str) -> Option<What> {
    match text {
        "u" => return Some(What::Class { shift: 6 }),
        "g" => return Some(What::Class { shift: 3 }),
        "o" => return Some(What::Class { shift: 0 }),
        _ => {}
    }
    let (mut bits, mut conditional) = (0, false);
    for letter in text.chars() {
        match letter {
            'r' => bits |= 0o444,
            'w' => bits |= 0o222,
            'x' => bits |= 0o111,
            's' => bits |= 0o6000,
            't' => bits |= STICKY,
            'X' => conditional = true,
            _ => return None,
        }
    }
    Some(What::Bits { bits, conditional })
}

#[cfg(test)]
mod tests {
    use super::ModeChange;

    fn applied(text: &str, mode: u32, is_dir: bool) -> u32 {
        ModeChange::parse(text).unwrap().unwrap().apply(mode, is_dir)
    }

    #[test]
    fn octal_replaces_everything() {
        assert_eq!(applied("4755", 0o640, false), 0o4755);
        assert_eq!(applied("0", 0o640, true), 0);
        assert_eq!(ModeChange::parse("").unwrap(), None);
        assert!(ModeChange::parse("10000").is_err());
        assert!(ModeChange::parse("78").is_err());
    }

    #[test]
    fn symbolic_clauses_change_what_they_name() {
        assert_eq!(applied("+x", 0o644, false), 0o755);
        assert_eq!(applied("go-rwx", 0o755, false), 0o700);
        assert_eq!(applied("a=rwX", 0o644, false), 0o666);
        assert_eq!(applied("a=rwX", 0o644, true), 0o777);
        assert_eq!(applied("a=rwX", 0o744, false), 0o777);
        assert_eq!(applied("u+s", 0o755, false), 0o4755);
        assert_eq!(applied("g+s,+t", 0o755, true), 0o3755);
        assert_eq!(applied("u=rw,g=u,o=", 0o777, false), 0o660);
        assert_eq!(applied("u=rwx-x+x", 0o000, false), 0o700);
        assert_eq!(applied("go=", 0o1777, true), 0o1700);
    }

    #[test]
    fn the_sticky_bit_is_as_buildkit_has_it() {
        // What BuildKit in dockerd 28.5 made of files and directories, which it treats alike.
        let expected = [
            ("a=rX", 0o1777, 0o1555),
            ("=rX", 0o7777, 0o1555),
            ("u=rw", 0o1777, 0o1677),
            ("a=rwxt", 0o4755, 0o1777),
            ("a=,u=rw", 0o7777, 0o1600),
            ("o+t", 0o644, 0o644),
            ("o-t", 0o1777, 0o1777),
            ("o=t", 0o1777, 0o1770),
            ("g+t", 0o644, 0o1644),
            ("u-t", 0o7777, 0o6777),
            ("u=t", 0o4755, 0o1055),
            ("a+s", 0o1777, 0o7777),
            ("a=u", 0o4755, 0o4777),
            ("o=g", 0o1744, 0o1744),
        ];
        for (change, mode, made) in expected {
            for is_dir in [false, true] {
                assert_eq!(format!("{:o}", applied(change, mode, is_dir)), format!("{made:o}"), "{change} on {mode:o}");
            }
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["x", "u", "u+q", "z+x", "u+x,", ",", "u=gx"] {
            assert!(ModeChange::parse(text).is_err(), "{text}");
        }
    }
}
