//! Whether an expression of CEL is true: written by users in annotations, and by the authors of custom resources in their schemas.
//!
//! CEL always ends, but its cost grows with nested loops over lists, and its parser with nested parentheses: all are bounded.

use std::sync::Arc;

use cel::{Context, Env, Program, Value as Cel};
use serde_json::Value;

/// What an expression may be at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Characters.
    pub length: usize,
    /// Parentheses, brackets and braces that are open at once.
    pub depth: usize,
    /// Loops (`all`, `exists`, `map` ...).
    pub loops: usize,
}

/// Why it is neither true nor false.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unclear {
    /// It asks for a field that is not there.
    Missing,
    /// It cannot be read, or does what is not known here; for the person who wrote it.
    Unusable(String),
}

const LOOPS: [&str; 6] = [".all(", ".exists(", ".exists_one(", ".existsOne(", ".map(", ".filter("];

/// How many loops an expression has.
pub fn loops(expression: &str) -> usize {
    LOOPS.iter().map(|word| expression.matches(word).count()).sum()
}

/// Whether an expression is true of these variables.
///
/// # Errors
/// Why nobody can say.
pub fn holds(expression: &str, variables: &[(&str, &Value)], limits: Limits) -> Result<bool, Unclear> {
    let unusable = |text: String| Err(Unclear::Unusable(text));
    let (environment, program) = readable(expression, limits).map_err(Unclear::Unusable)?;
    let mut context = Context::with_env(environment);
    for (name, value) in variables {
        context.add_variable(*name, *value).map_err(|error| Unclear::Unusable(error.to_string()))?;
    }
    match program.execute(&context) {
        Ok(Cel::Bool(truth)) => Ok(truth),
        Ok(other) => unusable(format!("it gives {} and not true or false", other.type_of())),
        Err(cel::ExecutionError::NoSuchKey(_)) => Err(Unclear::Missing),
        Err(error) => unusable(error.to_string()),
    }
}

/// An expression that is within the limits and can be read.
pub(crate) fn readable(expression: &str, limits: Limits) -> Result<(Arc<Env>, Program), String> {
    let length = expression.chars().count();
    if length > limits.length {
        return Err(format!("it has {length} characters; at most {} are possible", limits.length));
    }
    let mut open = 0usize;
    for letter in expression.chars() {
        match letter {
            '(' | '[' | '{' => open += 1,
            ')' | ']' | '}' => open = open.saturating_sub(1),
            _ => {}
        }
        if open > limits.depth {
            return Err(format!("its parentheses are nested more than {} deep", limits.depth));
        }
    }
    let loops = loops(expression);
    if loops > limits.loops {
        return Err(format!("it has {loops} loops over lists; at most {} are possible", limits.loops));
    }
    let environment = Arc::new(Env::stdlib());
    let program = environment.compile(expression).map_err(|error| first_line(&error.to_string()))?;
    Ok((environment, program))
}

fn first_line(text: &str) -> String {
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or("it cannot be read").trim().to_owned()
}
