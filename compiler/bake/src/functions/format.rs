//! `format` and `formatlist`: verbs as in C, with the meaning that HCL gives them.

use super::{Arguments, Function, Host, MANY, row, with_nulls};
use crate::value::{Value, number_text};

type Answer = Result<Value, String>;

pub(super) const TABLE: &[Function] =
    &[with_nulls("format", 1, MANY, |a, _| Ok(format(&a.text(0)?, &a.all()[1..])?.into())), row("formatlist", 1, MANY, format_list)];

/// Nothing is filled up to more characters.
const MOST_WIDTH: usize = 1024;

/// One verb with what stands before it.
#[derive(Default)]
struct Verb {
    minus: bool,
    plus: bool,
    zero: bool,
    sharp: bool,
    blank: bool,
    width: usize,
    precision: Option<usize>,
    /// The argument's place, from 1.
    place: Option<usize>,
    letter: char,
}

fn format(text: &str, arguments: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    let mut characters = text.chars().peekable();
    let (mut next, mut highest, mut placed) = (0, 0, false);
    while let Some(character) = characters.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let verb = read(&mut characters)?;
        if verb.letter == '%' {
            out.push('%');
            continue;
        }
        placed |= verb.place.is_some();
        let at = verb.place.map_or(next, |place| place - 1);
        next = at + 1;
        highest = highest.max(next);
        let value = arguments.get(at).ok_or_else(|| format!("%{} wants argument {}, and there are {}", verb.letter, at + 1, arguments.len()))?;
        out.push_str(&shown(&verb, value)?);
    }
    if highest < arguments.len() && !placed {
        return Err(format!("there are {} arguments for {highest} verbs", arguments.len()));
    }
    Ok(out)
}

fn read(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Verb, String> {
    let mut verb = Verb::default();
    while let Some(flag) = characters.next_if(|c| "-+0# ".contains(*c)) {
        match flag {
            '-' => verb.minus = true,
            '+' => verb.plus = true,
            '0' => verb.zero = true,
            '#' => verb.sharp = true,
            _ => verb.blank = true,
        }
    }
    verb.width = digits(characters)?.unwrap_or(0);
    if characters.next_if_eq(&'.').is_some() {
        verb.precision = Some(digits(characters)?.unwrap_or(0));
    }
    if characters.next_if_eq(&'[').is_some() {
        verb.place = digits(characters)?.filter(|place| *place > 0);
        if verb.place.is_none() || characters.next() != Some(']') {
            return Err("an argument's place is written as in %[1]s".to_owned());
        }
    }
    verb.letter = characters.next().ok_or("the text ends within a verb")?;
    Ok(verb)
}

fn digits(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Option<usize>, String> {
    let mut text = String::new();
    while let Some(digit) = characters.next_if(char::is_ascii_digit) {
        text.push(digit);
    }
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().ok().filter(|number| *number <= MOST_WIDTH).map(Some).ok_or_else(|| format!("{text} is too large a width"))
}

fn shown(verb: &Verb, value: &Value) -> Result<String, String> {
    let needs = |expected: &str| format!("%{} wants {expected}, and this is {}", verb.letter, value.kind());
    let number = || value.to_number().ok_or_else(|| needs("a number"));
    let text = match verb.letter {
        's' => cut(verb, value.to_text().ok_or_else(|| needs("text"))?),
        'q' => serde_json::Value::from(cut(verb, value.to_text().ok_or_else(|| needs("text"))?)).to_string(),
        't' => value.to_bool().ok_or_else(|| needs("true or false"))?.to_string(),
        'v' if verb.sharp => value.to_json().to_string(),
        'v' => match value {
            Value::String(text) => cut(verb, text.clone()),
            Value::Number(number) => signed(verb, *number, number_text(number.abs())),
            other => other.to_json().to_string(),
        },
        'd' => number().map(|number| signed(verb, number, number_text(number.trunc().abs())))?,
        'f' | 'F' => number().map(|number| signed(verb, number, format!("{:.*}", verb.precision.unwrap_or(6), number.abs())))?,
        'e' | 'E' | 'g' | 'G' => {
            let number = number()?;
            let plain = exponent(verb, number.abs());
            signed(verb, number, if verb.letter.is_uppercase() { plain.to_uppercase() } else { plain })
        }
        'b' | 'o' | 'x' | 'X' => {
            let number = number()?;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "digits of what fits")]
            let whole = number.trunc().abs() as u64;
            let (prefix, digits) = match verb.letter {
                'b' => ("0b", format!("{whole:b}")),
                'o' => ("0", format!("{whole:o}")),
                'x' => ("0x", format!("{whole:x}")),
                _ => ("0X", format!("{whole:X}")),
            };
            signed(verb, number, if verb.sharp { format!("{prefix}{digits}") } else { digits })
        }
        other => return Err(format!("there is no verb %{other}")),
    };
    Ok(fill(verb, text))
}

/// A precision cuts texts.
fn cut(verb: &Verb, text: String) -> String {
    verb.precision.map_or(text.clone(), |most| text.chars().take(most).collect())
}

fn signed(verb: &Verb, number: f64, digits: String) -> String {
    match (number < 0.0, verb.plus, verb.blank) {
        (true, ..) => format!("-{digits}"),
        (_, true, _) => format!("+{digits}"),
        (_, _, true) => format!(" {digits}"),
        _ => digits,
    }
}

/// `1.5e+06`, and for `%g` the shorter of it and the plain form.
fn exponent(verb: &Verb, number: f64) -> String {
    let text = match (verb.letter.to_ascii_lowercase(), verb.precision) {
        ('e', precision) => format!("{:.*e}", precision.unwrap_or(6), number),
        (_, Some(digits)) => format!("{:.*e}", digits.saturating_sub(1), number),
        _ => format!("{number:e}"),
    };
    let (mantissa, power) = text.split_once('e').unwrap_or((&text, "0"));
    let power: i32 = power.parse().unwrap_or_default();
    let most = verb.precision.and_then(|digits| i32::try_from(digits).ok()).unwrap_or(21);
    if verb.letter.eq_ignore_ascii_case(&'g') && (-4..most).contains(&power) {
        let rounded: f64 = text.parse().unwrap_or(number);
        return rounded.to_string();
    }
    let mantissa =
        if verb.letter.eq_ignore_ascii_case(&'g') && mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
    let sign = if power < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", power.abs())
}

fn fill(verb: &Verb, text: String) -> String {
    let missing = verb.width.saturating_sub(text.chars().count());
    if missing == 0 {
        return text;
    }
    if verb.minus {
        return text + &" ".repeat(missing);
    }
    if verb.zero {
        let digits = text.trim_start_matches(['-', '+']);
        let (sign, digits) = text.split_at(text.len() - digits.len());
        return format!("{sign}{}{digits}", "0".repeat(missing));
    }
    " ".repeat(missing) + &text
}

/// One text for each element of the lists among the arguments.
fn format_list(arguments: &Arguments<'_>, _: &Host) -> Answer {
    let format_text = arguments.text(0)?;
    let values = &arguments.all()[1..];
    let mut lengths = values.iter().filter_map(|value| if let Value::List(items) = value { Some(items.len()) } else { None });
    let rows = lengths.next().unwrap_or(1);
    if lengths.any(|length| length != rows) {
        return Err("the lists are not of one length".to_owned());
    }
    let of =
        |row: usize| -> Vec<Value> { values.iter().map(|value| if let Value::List(items) = value { items[row].clone() } else { value.clone() }).collect() };
    Ok(Value::List((0..rows).map(|row| format(&format_text, &of(row)).map(Value::String)).collect::<Result<_, _>>()?))
}
