//! Numbers, truths and comparisons.

use super::{Arguments, Function, Host, MANY, row, with_nulls};
use crate::value::Value;

type Answer = Result<Value, String>;

pub(super) const TABLE: &[Function] = &[
    row("absolute", 1, 1, |a, _| Ok(a.number(0)?.abs().into())),
    row("add", 2, 2, |a, _| Ok((a.number(0)? + a.number(1)?).into())),
    row("and", 2, 2, |a, _| Ok((a.truth(0)? && a.truth(1)?).into())),
    row("ceil", 1, 1, |a, _| Ok(a.number(0)?.ceil().into())),
    row("divide", 2, 2, divide),
    with_nulls("equal", 2, 2, |a, _| Ok((a.value(0) == a.value(1)).into())),
    row("floor", 1, 1, |a, _| Ok(a.number(0)?.floor().into())),
    row("greaterthan", 2, 2, |a, _| Ok((a.number(0)? > a.number(1)?).into())),
    row("greaterthanorequalto", 2, 2, |a, _| Ok((a.number(0)? >= a.number(1)?).into())),
    row("int", 1, 1, |a, _| Ok(a.number(0)?.trunc().into())),
    row("lessthan", 2, 2, |a, _| Ok((a.number(0)? < a.number(1)?).into())),
    row("lessthanorequalto", 2, 2, |a, _| Ok((a.number(0)? <= a.number(1)?).into())),
    row("log", 2, 2, |a, _| finite(a.number(0)?.ln() / a.number(1)?.ln())),
    row("max", 1, MANY, |a, _| extreme(a, f64::max)),
    row("min", 1, MANY, |a, _| extreme(a, f64::min)),
    row("modulo", 2, 2, modulo),
    row("multiply", 2, 2, |a, _| Ok((a.number(0)? * a.number(1)?).into())),
    row("negate", 1, 1, |a, _| Ok((-a.number(0)?).into())),
    row("not", 1, 1, |a, _| Ok((!a.truth(0)?).into())),
    with_nulls("notequal", 2, 2, |a, _| Ok((a.value(0) != a.value(1)).into())),
    row("or", 2, 2, |a, _| Ok((a.truth(0)? || a.truth(1)?).into())),
    row("parseint", 2, 2, parse_int),
    row("pow", 2, 2, |a, _| finite(a.number(0)?.powf(a.number(1)?))),
    row("range", 1, 3, range),
    row("signum", 1, 1, |a, _| Ok(a.number(0).map(|number| if number == 0.0 { 0.0 } else { number.signum() })?.into())),
    row("subtract", 2, 2, |a, _| Ok((a.number(0)? - a.number(1)?).into())),
];

/// A range is not longer.
const MOST_STEPS: usize = 1024;

fn finite(number: f64) -> Answer {
    if number.is_finite() { Ok(number.into()) } else { Err("the result is no number".to_owned()) }
}

fn divide(arguments: &Arguments<'_>, _: &Host) -> Answer {
    let by = arguments.number(1)?;
    if by == 0.0 { Err("a division by zero".to_owned()) } else { finite(arguments.number(0)? / by) }
}

fn modulo(arguments: &Arguments<'_>, _: &Host) -> Answer {
    let by = arguments.number(1)?;
    if by == 0.0 { Err("a division by zero".to_owned()) } else { finite(arguments.number(0)? % by) }
}

fn extreme(arguments: &Arguments<'_>, choose: fn(f64, f64) -> f64) -> Answer {
    let mut best = arguments.number(0)?;
    for place in 1..arguments.len() {
        best = choose(best, arguments.number(place)?);
    }
    Ok(best.into())
}

#[expect(clippy::cast_precision_loss, reason = "numbers of bake files are floats")]
fn parse_int(arguments: &Arguments<'_>, _: &Host) -> Answer {
    let (text, base) = (arguments.text(0)?, arguments.whole(1)?);
    let base = u32::try_from(base).ok().filter(|base| (2..=36).contains(base)).ok_or("the base must be 2 to 36")?;
    let number = i64::from_str_radix(&text, base).map_err(|_| format!("`{text}` is not a whole number of base {base}"))?;
    Ok(Value::Number(number as f64))
}

fn range(arguments: &Arguments<'_>, _: &Host) -> Answer {
    let (start, end) = if arguments.len() == 1 { (0.0, arguments.number(0)?) } else { (arguments.number(0)?, arguments.number(1)?) };
    let step = if arguments.len() == 3 {
        arguments.number(2)?
    } else if end < start {
        -1.0
    } else {
        1.0
    };
    if step == 0.0 || (end - start) * step < 0.0 {
        return Err("the step must lead from the start to the end".to_owned());
    }
    let (mut numbers, mut at) = (Vec::new(), start);
    while if step > 0.0 { at < end } else { at > end } {
        if numbers.len() == MOST_STEPS {
            return Err(format!("more than {MOST_STEPS} numbers"));
        }
        numbers.push(Value::Number(at));
        at += step;
    }
    Ok(Value::List(numbers))
}
