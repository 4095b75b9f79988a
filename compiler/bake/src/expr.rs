//! Expressions: HCL's trees to values.

use std::collections::BTreeMap;
use std::ops::Range;

use hcl_edit::Span as _;
use hcl_edit::expr::{BinaryOp, BinaryOperator, Expression, ForExpr, FuncCall, Object, ObjectKey, Traversal, TraversalOperator, UnaryOperator};
use strake_source::{Diagnostic, FileId, Span};

use crate::functions;
use crate::value::Value;

/// A value, or why there is none.
pub(crate) type Eval<T> = Result<T, Box<Diagnostic>>;

/// A finding about an expression.
pub(crate) fn wrong<T>(code: &'static str, message: impl Into<String>, span: Span) -> Eval<T> {
    Err(Box::new(Diagnostic::error(code, message).at(span)))
}

/// The file of an expression; a template inside a JSON text stands where the text does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) file: FileId,
    pub(crate) fixed: Option<Span>,
}

impl Place {
    pub(crate) fn span(self, range: Option<Range<usize>>) -> Span {
        let range = range.unwrap_or_default();
        self.fixed.unwrap_or_else(|| Span::new(self.file, range.start, range.end))
    }
}

/// Names that are known in one part of a file only: parameters, the variables of a `for`, the values of a matrix.
#[derive(Debug, Default)]
pub(crate) struct Scope<'s> {
    pub(crate) parent: Option<&'s Scope<'s>>,
    pub(crate) values: BTreeMap<String, Value>,
}

impl Scope<'_> {
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name).or_else(|| self.parent?.get(name))
    }
}

/// What an expression can name besides its scope.
pub(crate) trait Names {
    /// A variable's value.
    fn variable(&self, name: &str, span: Span) -> Eval<Value>;
    /// Whether `kind` begins a reference to a block: `target`, `group`.
    fn is_block(&self, kind: &str) -> bool;
    /// A block's attribute, or all of them.
    fn block(&self, kind: &str, name: &str, attribute: Option<&str>, span: Span) -> Eval<Value>;
    /// A function that the file defines.
    fn call(&self, name: &str, arguments: &[Value], span: Span) -> Option<Eval<Value>>;
    /// What the file calls its functions.
    fn functions(&self) -> Vec<&str>;
    /// What only the caller knows.
    fn host(&self) -> &functions::Host;
}

/// Evaluates expressions of one file.
#[derive(Clone, Copy)]
pub(crate) struct Evaluator<'e> {
    pub(crate) names: &'e dyn Names,
    pub(crate) place: Place,
}

impl Evaluator<'_> {
    /// The value of an expression.
    pub(crate) fn value(&self, expression: &Expression, scope: &Scope<'_>) -> Eval<Value> {
        match expression {
            Expression::Null(_) => Ok(Value::Null),
            Expression::Bool(value) => Ok(Value::Bool(*value.value())),
            Expression::Number(number) => Ok(Value::Number(number.value().as_f64().unwrap_or_default())),
            Expression::String(text) => Ok(Value::from(text.value().as_str())),
            Expression::Array(items) => Ok(Value::List(items.iter().map(|item| self.value(item, scope)).collect::<Eval<_>>()?)),
            Expression::Object(object) => self.object(object, scope),
            Expression::StringTemplate(template) => self.template_value(template, scope),
            Expression::HeredocTemplate(heredoc) => self.template(&heredoc.template, scope, (false, false)).map(Value::String),
            Expression::Parenthesis(inner) => self.value(inner.inner(), scope),
            Expression::Variable(name) => self.variable(name.as_str(), self.span(expression), scope),
            Expression::Conditional(conditional) => {
                let chosen = self.truth(&conditional.cond_expr, scope)?;
                self.value(if chosen { &conditional.true_expr } else { &conditional.false_expr }, scope)
            }
            Expression::FuncCall(call) => self.call(call, scope),
            Expression::Traversal(traversal) => self.traversal(traversal, scope),
            Expression::UnaryOp(operation) => match operation.operator.value() {
                UnaryOperator::Neg => self.number(&operation.expr, scope).map(|number| Value::Number(-number)),
                UnaryOperator::Not => self.truth(&operation.expr, scope).map(|value| Value::Bool(!value)),
            },
            Expression::BinaryOp(operation) => self.binary(operation, scope),
            Expression::ForExpr(each) => self.for_each(each, scope),
        }
    }

    pub(crate) fn span(&self, expression: &Expression) -> Span {
        self.place.span(expression.span())
    }

    fn variable(&self, name: &str, span: Span, scope: &Scope<'_>) -> Eval<Value> {
        if let Some(value) = scope.get(name) {
            return Ok(value.clone());
        }
        if self.names.is_block(name) {
            return wrong("bake-value", format!("`{name}` alone is no value: expected {name}.NAME.ATTRIBUTE"), span);
        }
        self.names.variable(name, span)
    }

    pub(crate) fn truth(&self, expression: &Expression, scope: &Scope<'_>) -> Eval<bool> {
        let value = self.value(expression, scope)?;
        value.to_bool().map_or_else(|| wrong("bake-value", format!("expected true or false, found {}", value.kind()), self.span(expression)), Ok)
    }

    fn number(&self, expression: &Expression, scope: &Scope<'_>) -> Eval<f64> {
        let value = self.value(expression, scope)?;
        value.to_number().map_or_else(|| wrong("bake-value", format!("expected a number, found {}", value.kind()), self.span(expression)), Ok)
    }

    fn object(&self, object: &Object, scope: &Scope<'_>) -> Eval<Value> {
        let mut entries = BTreeMap::new();
        for (key, value) in object.iter() {
            let name = match key {
                ObjectKey::Ident(name) => name.as_str().to_owned(),
                // A name alone is that name, also when there is a variable of it; in brackets it is the variable.
                ObjectKey::Expression(Expression::Variable(name)) => name.as_str().to_owned(),
                ObjectKey::Expression(expression) => self.text(expression, scope)?,
            };
            entries.insert(name, self.value(value.expr(), scope)?);
        }
        Ok(Value::Object(entries))
    }

    pub(crate) fn text(&self, expression: &Expression, scope: &Scope<'_>) -> Eval<String> {
        let value = self.value(expression, scope)?;
        value.to_text().map_or_else(|| wrong("bake-value", format!("expected text, found {}", value.kind()), self.span(expression)), Ok)
    }

    fn binary(&self, operation: &BinaryOp, scope: &Scope<'_>) -> Eval<Value> {
        let (left, right) = (&operation.lhs_expr, &operation.rhs_expr);
        let numbers = || Ok((self.number(left, scope)?, self.number(right, scope)?));
        let compared = |compare: fn(f64, f64) -> bool| numbers().map(|(a, b)| Value::Bool(compare(a, b)));
        let counted = |count: fn(f64, f64) -> f64| numbers().map(|(a, b)| Value::Number(count(a, b)));
        match operation.operator.value() {
            BinaryOperator::Eq => Ok(Value::Bool(self.value(left, scope)? == self.value(right, scope)?)),
            BinaryOperator::NotEq => Ok(Value::Bool(self.value(left, scope)? != self.value(right, scope)?)),
            BinaryOperator::LessEq => compared(|a, b| a <= b),
            BinaryOperator::GreaterEq => compared(|a, b| a >= b),
            BinaryOperator::Less => compared(|a, b| a < b),
            BinaryOperator::Greater => compared(|a, b| a > b),
            BinaryOperator::Plus => counted(|a, b| a + b),
            BinaryOperator::Minus => counted(|a, b| a - b),
            BinaryOperator::Mul => counted(|a, b| a * b),
            BinaryOperator::And => Ok(Value::Bool(self.truth(left, scope)? && self.truth(right, scope)?)),
            BinaryOperator::Or => Ok(Value::Bool(self.truth(left, scope)? || self.truth(right, scope)?)),
            operator @ (BinaryOperator::Div | BinaryOperator::Mod) => {
                let (a, b): (f64, f64) = numbers()?;
                if b == 0.0 {
                    return wrong("bake-value", "a division by zero", self.span(right));
                }
                Ok(Value::Number(if *operator == BinaryOperator::Div { a / b } else { a % b }))
            }
        }
    }

    fn for_each(&self, each: &ForExpr, scope: &Scope<'_>) -> Eval<Value> {
        let intro = &each.intro;
        let pairs = self.pairs(&intro.collection_expr, scope)?;
        let (mut list, mut map) = (Vec::new(), BTreeMap::<String, Value>::new());
        for (key, value) in pairs {
            let inner = inner_scope(scope, intro.key_var.as_ref().map(|name| name.as_str()), intro.value_var.as_str(), key, value);
            if let Some(condition) = &each.cond
                && !self.truth(&condition.expr, &inner)?
            {
                continue;
            }
            let value = self.value(&each.value_expr, &inner)?;
            let Some(key) = &each.key_expr else {
                list.push(value);
                continue;
            };
            let name = self.text(key, &inner)?;
            match (each.grouping, map.get_mut(&name)) {
                (true, Some(Value::List(group))) => group.push(value),
                (true, _) => drop(map.insert(name, Value::List(vec![value]))),
                (false, None) => drop(map.insert(name, value)),
                (false, Some(_)) => {
                    let message = format!("the key `{name}` comes twice: end the value with `...` to collect what has the same key");
                    return wrong("bake-value", message, self.span(key));
                }
            }
        }
        Ok(if each.key_expr.is_some() { Value::Object(map) } else { Value::List(list) })
    }

    /// What a `for` goes through: keys or places with their values.
    pub(crate) fn pairs(&self, expression: &Expression, scope: &Scope<'_>) -> Eval<Vec<(Value, Value)>> {
        match self.value(expression, scope)? {
            Value::List(items) => Ok(items.into_iter().enumerate().map(|(index, item)| (number(index), item)).collect()),
            Value::Object(entries) => Ok(entries.into_iter().map(|(key, value)| (Value::String(key), value)).collect()),
            other => wrong("bake-value", format!("expected a list or an object to go through, found {}", other.kind()), self.span(expression)),
        }
    }

    fn call(&self, call: &FuncCall, scope: &Scope<'_>) -> Eval<Value> {
        let name = call.name.name.as_str();
        let span = self.place.span(call.name.name.span());
        if call.name.is_namespaced() {
            return wrong("bake-unknown-function", "functions have no namespaces", span);
        }
        match name {
            "try" => return self.first_good(call, scope, span),
            "can" if call.args.len() == 1 => return Ok(Value::Bool(call.args.iter().all(|argument| self.value(argument, scope).is_ok()))),
            "convert" if call.args.len() == 2 => return self.convert(call, scope),
            _ => {}
        }
        let mut arguments = call.args.iter().map(|argument| self.value(argument, scope)).collect::<Eval<Vec<_>>>()?;
        if call.args.expand_final() {
            match arguments.pop() {
                Some(Value::List(items)) => arguments.extend(items),
                other => {
                    let found = other.map_or("nothing", |value| value.kind());
                    return wrong("bake-value", format!("`...` expands a list, and this is {found}"), span);
                }
            }
        }
        if let Some(answer) = self.names.call(name, &arguments, span) {
            return answer;
        }
        let Some(function) = functions::find(name) else {
            let mut finding = Diagnostic::error("bake-unknown-function", format!("there is no function `{name}`")).at(span);
            let known = self.names.functions();
            let near = strake_source::nearest(name, functions::names()).or_else(|| strake_source::nearest(name, known));
            finding.help.extend(near.map(|near| format!("did you mean `{near}`?")));
            return Err(Box::new(finding));
        };
        function.call(&arguments, self.names.host()).or_else(|why| wrong("bake-value", format!("{name}: {why}"), span))
    }

    fn first_good(&self, call: &FuncCall, scope: &Scope<'_>, span: Span) -> Eval<Value> {
        let mut last = wrong("bake-value", "try: expected at least one expression", span);
        for argument in call.args.iter() {
            last = self.value(argument, scope);
            if last.is_ok() {
                return last;
            }
        }
        last
    }

    fn convert(&self, call: &FuncCall, scope: &Scope<'_>) -> Eval<Value> {
        let (Some(value), Some(wanted)) = (call.args.get(0), call.args.get(1)) else { return Ok(Value::Null) };
        let wanted = self.constraint(wanted)?;
        let result = wanted.convert(&self.value(value, scope)?);
        result.or_else(|why| wrong("bake-value", format!("convert: {why}"), self.span(value)))
    }

    fn traversal(&self, traversal: &Traversal, scope: &Scope<'_>) -> Eval<Value> {
        let span = self.place.span(traversal.span());
        let mut operators: Vec<&TraversalOperator> = traversal.operators.iter().map(|operator| operator.value()).collect();
        let start = match &traversal.expr {
            Expression::Variable(root) if scope.get(root.as_str()).is_none() && self.names.is_block(root.as_str()) => {
                let name = operators.first().map(|operator| self.step_name(operator, scope)).transpose()?.flatten();
                let Some(name) = name else {
                    return wrong("bake-value", format!("expected {}.NAME.ATTRIBUTE", root.as_str()), span);
                };
                let attribute = operators.get(1).map(|operator| self.step_name(operator, scope)).transpose()?.flatten();
                operators.drain(..if attribute.is_some() { 2 } else { 1 });
                self.names.block(root.as_str(), &name, attribute.as_deref(), span)?
            }
            other => self.value(other, scope)?,
        };
        self.follow(start, &operators, scope, span)
    }

    fn step_name(&self, operator: &TraversalOperator, scope: &Scope<'_>) -> Eval<Option<String>> {
        match operator {
            TraversalOperator::GetAttr(name) => Ok(Some(name.as_str().to_owned())),
            TraversalOperator::Index(expression) => self.text(expression, scope).map(Some),
            _ => Ok(None),
        }
    }

    fn follow(&self, start: Value, operators: &[&TraversalOperator], scope: &Scope<'_>, span: Span) -> Eval<Value> {
        let mut value = start;
        for (at, operator) in operators.iter().enumerate() {
            let key = match operator {
                TraversalOperator::GetAttr(name) => Value::from(name.as_str()),
                TraversalOperator::Index(expression) => self.value(expression, scope)?,
                #[expect(clippy::cast_precision_loss, reason = "places in lists are small")]
                TraversalOperator::LegacyIndex(index) => Value::Number(*index.value() as f64),
                TraversalOperator::FullSplat(_) => {
                    let items = splat_items(value).into_iter().map(|item| self.follow(item, &operators[at + 1..], scope, span));
                    return Ok(Value::List(items.collect::<Eval<_>>()?));
                }
                TraversalOperator::AttrSplat(_) => {
                    let rest = &operators[at + 1..];
                    let attributes = rest.iter().take_while(|operator| matches!(operator, TraversalOperator::GetAttr(_))).count();
                    let items = splat_items(value).into_iter().map(|item| self.follow(item, &rest[..attributes], scope, span));
                    let list = Value::List(items.collect::<Eval<_>>()?);
                    return self.follow(list, &rest[attributes..], scope, span);
                }
            };
            value = functions::index(&value, &key).or_else(|why| wrong("bake-value", why, span))?;
        }
        Ok(value)
    }
}

fn splat_items(value: Value) -> Vec<Value> {
    match value {
        Value::Null => Vec::new(),
        Value::List(items) => items,
        other => vec![other],
    }
}

#[expect(clippy::cast_precision_loss, reason = "places in lists are small")]
fn number(index: usize) -> Value {
    Value::Number(index as f64)
}

/// The scope of one turn of a `for`.
pub(crate) fn inner_scope<'s>(scope: &'s Scope<'s>, key_name: Option<&str>, value_name: &str, key: Value, value: Value) -> Scope<'s> {
    let mut values = BTreeMap::from([(value_name.to_owned(), value)]);
    if let Some(name) = key_name {
        values.insert(name.to_owned(), key);
    }
    Scope { parent: Some(scope), values }
}
