//! The functions of bake files: a table, by name.

mod addresses;
mod collections;
mod dates;
mod encoding;
mod format;
mod numbers;
mod semver;
mod strings;

use std::cell::Cell;
use std::collections::BTreeMap;

use crate::value::Value;

pub(crate) use collections::index;
pub(crate) use strings::clean;

/// What functions need that only the caller knows: nothing here reads clocks, files or chance.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// The time, in seconds since 1970: `timestamp()`.
    pub now_s: i64,
    /// The user's home directory: `homedir()`.
    pub home: String,
    /// Chance, for `uuidv4()`.
    pub seed: [u8; 16],
    /// How many have been drawn from it.
    pub drawn: Cell<u64>,
}

type Run = fn(&Arguments<'_>, &Host) -> Result<Value, String>;

/// One function.
pub(crate) struct Function {
    name: &'static str,
    least: usize,
    most: usize,
    /// Takes null as an argument.
    nulls: bool,
    run: Run,
}

const MANY: usize = usize::MAX;

const fn row(name: &'static str, least: usize, most: usize, run: Run) -> Function {
    Function { name, least, most, nulls: false, run }
}

const fn with_nulls(name: &'static str, least: usize, most: usize, run: Run) -> Function {
    Function { name, least, most, nulls: true, run }
}

/// Forms of the language that are called like functions: their arguments are not evaluated before.
const FORMS: [&str; 3] = ["try", "can", "convert"];

static TABLE: &[&[Function]] = &[addresses::TABLE, collections::TABLE, dates::TABLE, encoding::TABLE, format::TABLE, numbers::TABLE, strings::TABLE];

/// The function of that name.
pub(crate) fn find(name: &str) -> Option<&'static Function> {
    TABLE.iter().flat_map(|rows| rows.iter()).find(|function| function.name == name)
}

/// All names.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().flat_map(|rows| rows.iter()).map(|function| function.name).chain(FORMS)
}

impl Function {
    /// Calls it. `Err` says what is wrong with the arguments.
    pub(crate) fn call(&self, arguments: &[Value], host: &Host) -> Result<Value, String> {
        if arguments.len() < self.least || arguments.len() > self.most {
            let expected = match (self.least, self.most) {
                (least, most) if least == most => format!("{least}"),
                (least, MANY) => format!("{least} or more"),
                (least, most) => format!("{least} to {most}"),
            };
            return Err(format!("expected {expected} arguments, found {}", arguments.len()));
        }
        if !self.nulls
            && let Some(place) = arguments.iter().position(|argument| *argument == Value::Null)
        {
            return Err(format!("argument {} must not be null", place + 1));
        }
        (self.run)(&Arguments(arguments), host)
    }
}

/// The arguments of a call, with what they must be.
pub(crate) struct Arguments<'a>(&'a [Value]);

impl Arguments<'_> {
    fn all(&self) -> &[Value] {
        self.0
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn value(&self, place: usize) -> &Value {
        self.0.get(place).unwrap_or(&Value::Null)
    }

    fn wrong(&self, place: usize, expected: &str) -> String {
        format!("argument {} is {}, expected {expected}", place + 1, self.value(place).kind())
    }

    fn text(&self, place: usize) -> Result<String, String> {
        self.value(place).to_text().ok_or_else(|| self.wrong(place, "text"))
    }

    fn number(&self, place: usize) -> Result<f64, String> {
        self.value(place).to_number().ok_or_else(|| self.wrong(place, "a number"))
    }

    #[expect(clippy::cast_possible_truncation, reason = "the range is checked before")]
    fn whole(&self, place: usize) -> Result<i64, String> {
        let number = self.number(place)?;
        if number.fract() != 0.0 || number.abs() > 9.0e15 {
            return Err(format!("argument {} must be a whole number", place + 1));
        }
        Ok(number as i64)
    }

    fn truth(&self, place: usize) -> Result<bool, String> {
        self.value(place).to_bool().ok_or_else(|| self.wrong(place, "true or false"))
    }

    fn list(&self, place: usize) -> Result<&[Value], String> {
        match self.value(place) {
            Value::List(items) => Ok(items),
            _ => Err(self.wrong(place, "a list")),
        }
    }

    fn texts(&self, place: usize) -> Result<Vec<String>, String> {
        let each = |item: &Value| item.to_text().ok_or_else(|| format!("argument {} has {} in it, expected texts", place + 1, item.kind()));
        self.list(place)?.iter().map(each).collect()
    }

    fn object(&self, place: usize) -> Result<&BTreeMap<String, Value>, String> {
        match self.value(place) {
            Value::Object(entries) => Ok(entries),
            _ => Err(self.wrong(place, "an object")),
        }
    }
}

/// A place or a count as a value.
#[expect(clippy::cast_precision_loss, reason = "places and counts are small")]
fn count(number: usize) -> Value {
    Value::Number(number as f64)
}

#[cfg(test)]
pub(crate) mod tests;
