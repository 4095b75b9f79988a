//! Here-documents: which words of a line open one.

use crate::grammar;

/// A word that opens a here-document.
#[derive(Debug, PartialEq)]
pub(crate) struct Mark {
    /// Its bytes in the line.
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// The delimiter without quotes.
    pub(crate) name: String,
    /// No quotes in the delimiter.
    pub(crate) expand: bool,
    /// `<<-`
    pub(crate) chomp: bool,
}

/// The marks of a logical line, in order. Only RUN, COPY, ADD and those under ONBUILD have any, and not in their JSON form.
/// `rest` is the file behind the line: a mark with a blank between `<<` and its delimiter counts only when that delimiter ends something there.
pub(crate) fn marks(line: &str, rest: &str) -> Vec<Mark> {
    if !line.contains("<<") || !may_have(line) {
        return Vec::new();
    }
    let mut found: Vec<Mark> = Vec::new();
    let words = words(line);
    for (index, (start, end)) in words.iter().copied().enumerate() {
        let Some((chomp, delimiter)) = opening(&line[start..end]) else { continue };
        if delimiter.is_empty() {
            let Some((next_start, next_end)) = words.get(index + 1).copied() else { continue };
            let delimiter = &line[next_start..next_end];
            let Some((name, expand)) = unquoted(delimiter).filter(|(name, _)| is_name(name)) else { continue };
            let ends_something = rest.lines().any(|line| if chomp { line.trim_start_matches('\t') == name } else { line == name });
            if ends_something {
                found.push(Mark { start, end: next_end, name, expand, chomp });
            }
        } else if let Some((name, expand)) = unquoted(delimiter) {
            found.push(Mark { start, end, name, expand, chomp });
        }
    }
    found
}

/// Removes the leading tabs of every line.
pub(crate) fn chomp(body: &str) -> String {
    body.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}

fn may_have(line: &str) -> bool {
    let mut rest = line;
    loop {
        let Some(parts) = grammar::instruction(rest) else { return false };
        let arguments = parts.rest.clone();
        match rest[parts.keyword].to_uppercase().as_str() {
            "ONBUILD" => rest = &rest[arguments],
            "RUN" | "COPY" | "ADD" => return grammar::json_array(&rest[arguments]).is_none(),
            _ => return false,
        }
    }
}

/// For `3<<-NAME`: whether tabs are cut, and what stands behind.
fn opening(word: &str) -> Option<(bool, &str)> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (chomp, delimiter) = rest.strip_prefix('-').map_or((false, rest), |delimiter| (true, delimiter));
    (!delimiter.contains('<')).then_some((chomp, delimiter))
}

fn is_name(name: &str) -> bool {
    let start = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    start && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

/// The delimiter without quotes and escapes, and whether it had none. `None` when a quote stays open or nothing is left.
fn unquoted(delimiter: &str) -> Option<(String, bool)> {
    let mut name = String::new();
    let mut quoted = false;
    let mut chars = delimiter.chars();
    while let Some(character) = chars.next() {
        match character {
            '\'' | '"' => {
                quoted = true;
                loop {
                    match chars.next()? {
                        end if end == character => break,
                        inner => name.push(inner),
                    }
                }
            }
            '\\' => {
                quoted = true;
                name.extend(chars.next());
            }
            plain => name.push(plain),
        }
    }
    (!name.is_empty()).then_some((name, !quoted))
}

/// The places of a line's words: quotes and escapes protect blanks.
fn words(line: &str) -> Vec<(usize, usize)> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut chars = line.char_indices();
    while let Some((at, character)) = chars.next() {
        match quote {
            Some(open) if character == open => quote = None,
            Some('"') | None if character == '\\' => {
                start.get_or_insert(at);
                chars.next();
            }
            Some(_) => {}
            None if character.is_whitespace() => words.extend(start.take().map(|start| (start, at))),
            None => {
                start.get_or_insert(at);
                quote = Some(character).filter(|c| matches!(c, '\'' | '"'));
            }
        }
    }
    words.extend(start.map(|start| (start, line.len())));
    words
}

#[cfg(test)]
mod tests {
    use super::marks;

    fn names(line: &str) -> Vec<(String, bool, bool)> {
        let rest = "EOF\nA\n";
        marks(line, rest).into_iter().map(|mark| (mark.name, mark.expand, mark.chomp)).collect()
    }

    #[test]
    fn finds_marks() {
        let one = |name: &str, expand, chomp| vec![(name.to_owned(), expand, chomp)];
        assert_eq!(names("RUN <<EOF"), one("EOF", true, false));
        assert_eq!(names("run cat <<-'EOF' > /x"), one("EOF", false, true));
        assert_eq!(names("COPY <<\"E F\" /x"), one("E F", false, false));
        assert_eq!(names("RUN 3<<EOF cat"), one("EOF", true, false));
        assert_eq!(names("RUN cat << EOF"), one("EOF", true, false));
        assert_eq!(names("ONBUILD RUN <<EOF"), one("EOF", true, false));
        assert_eq!(names("RUN --mount=type=tmpfs,target=/x <<EOF"), one("EOF", true, false));
        assert_eq!(names("RUN <<A cat && <<EOF cat").len(), 2);
        for line in [
            "RUN echo '<<EOF'",
            "RUN echo \"<<EOF\"",
            "RUN [\"<<EOF\"]",
            "ENV a=<<EOF",
            "RUN echo $((1<<2))",
            "RUN echo $((1 << x))",
            "RUN a<<EOF",
            "RUN cat <<<EOF",
            "RUN cat <<",
        ] {
            assert_eq!(names(line), [], "{line}");
        }
    }
}
