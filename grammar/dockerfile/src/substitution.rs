//! Patterns of `${v#p}`, `${v%p}` and `${v/p/r}`: only `*` and `?` are special; `\` makes them, itself, `/` and `}` literal.

#[derive(Clone, Copy, Debug, PartialEq)]
enum Token {
    Literal(char),
    One,
    Many,
}

/// A pattern that has been read.
pub(crate) struct Pattern(Vec<Token>);

impl Pattern {
    pub(crate) fn read(pattern: &str) -> Result<Self, String> {
        let mut tokens = Vec::new();
        let mut chars = pattern.chars();
        while let Some(character) = chars.next() {
            tokens.push(match character {
                '*' => Token::Many,
                '?' => Token::One,
                '\\' => match chars.next() {
                    Some(literal @ ('*' | '?' | '\\' | '/' | '}')) => Token::Literal(literal),
                    Some(other) => return Err(format!("invalid pattern ({pattern}) in substitution: invalid escape '\\{other}'")),
                    None => return Err(format!("invalid pattern ({pattern}) in substitution: it ends with an escape")),
                },
                literal => Token::Literal(literal),
            });
        }
        Ok(Pattern(tokens))
    }

    /// Without the shortest or longest beginning that matches.
    pub(crate) fn trim_start(&self, value: &str, longest: bool) -> String {
        let chars: Vec<char> = value.chars().collect();
        let cut = pick(&reachable(&self.0, &chars), longest).unwrap_or(0);
        chars[cut..].iter().collect()
    }

    /// Without the shortest or longest end that matches.
    pub(crate) fn trim_end(&self, value: &str, longest: bool) -> String {
        let chars: Vec<char> = value.chars().rev().collect();
        let tokens: Vec<Token> = self.0.iter().rev().copied().collect();
        let cut = pick(&reachable(&tokens, &chars), longest).unwrap_or(0);
        chars[cut..].iter().rev().collect()
    }

    /// With the first match, or all, replaced; a match is as long as it can be.
    pub(crate) fn replace(&self, value: &str, replacement: &str, all: bool) -> String {
        let chars: Vec<char> = value.chars().collect();
        if self.0.is_empty() {
            return value.to_owned();
        }
        if chars.is_empty() && self.0.iter().all(|token| *token == Token::Many) {
            return template(replacement, "");
        }
        let (mut out, mut at, mut done) = (String::new(), 0, false);
        while at < chars.len() {
            let length = if done { 0 } else { pick(&reachable(&self.0, &chars[at..]), true).unwrap_or(0) };
            if length == 0 {
                out.push(chars[at]);
                at += 1;
            } else {
                let matched: String = chars[at..at + length].iter().collect();
                out.push_str(&template(replacement, &matched));
                at += length;
                done = !all;
            }
        }
        out
    }
}

/// Which lengths of a beginning match the whole pattern.
fn reachable(tokens: &[Token], chars: &[char]) -> Vec<bool> {
    let enter = |states: &mut Vec<bool>, index: usize| {
        let free = tokens[index..].iter().take_while(|token| **token == Token::Many).count();
        states[index..=index + free].fill(true);
    };
    let mut states = vec![false; tokens.len() + 1];
    enter(&mut states, 0);
    let mut lengths = vec![states[tokens.len()]];
    for character in chars {
        let mut next = vec![false; tokens.len() + 1];
        for (index, token) in tokens.iter().enumerate().filter(|(index, _)| states[*index]) {
            match token {
                Token::Literal(literal) if literal == character => enter(&mut next, index + 1),
                Token::One if *character != '\n' => enter(&mut next, index + 1),
                Token::Many if *character != '\n' => enter(&mut next, index),
                _ => {}
            }
        }
        states = next;
        lengths.push(states[tokens.len()]);
        if !states.contains(&true) {
            break;
        }
    }
    lengths
}

fn pick(lengths: &[bool], longest: bool) -> Option<usize> {
    if longest { lengths.iter().rposition(|matches| *matches) } else { lengths.iter().position(|matches| *matches) }
}

/// A `$name` that is still in the replacement is a group of the match, as observed: `$0` is the match, others are empty; `$$` is `$`.
fn template(replacement: &str, matched: &str) -> String {
    let mut out = String::new();
    let mut rest = replacement;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        let name = rest.len() - rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_').len();
        if let Some(behind) = rest.strip_prefix('$') {
            out.push('$');
            rest = behind;
        } else if name == 0 {
            out.push('$');
        } else {
            if &rest[..name] == "0" {
                out.push_str(matched);
            }
            rest = &rest[name..];
        }
    }
    out + rest
}
