//! Type constraints as they are written: `string`, `list(number)`, `object({name = string})`.

use hcl_edit::expr::{Expression, FuncCall, ObjectKey};
use strake_source::Diagnostic;

use crate::expr::{Eval, Evaluator, wrong};
use crate::types::Type;

const NAMES: [&str; 9] = ["any", "string", "number", "bool", "list", "set", "map", "tuple", "object"];

impl Evaluator<'_> {
    /// The type that an expression writes.
    pub(crate) fn constraint(&self, expression: &Expression) -> Eval<Type> {
        match expression {
            Expression::Parenthesis(inner) => self.constraint(inner.inner()),
            Expression::Variable(name) => match name.as_str() {
                "any" => Ok(Type::Any),
                "string" => Ok(Type::String),
                "number" => Ok(Type::Number),
                "bool" => Ok(Type::Bool),
                "list" => Ok(Type::List(Box::new(Type::Any))),
                "set" => Ok(Type::Set(Box::new(Type::Any))),
                "map" => Ok(Type::Map(Box::new(Type::Any))),
                other => self.unknown(other, expression),
            },
            Expression::FuncCall(call) => self.compound(call, expression),
            other => wrong("bake-value", "expected a type such as string, number, bool or list(string)", self.span(other)),
        }
    }

    fn compound(&self, call: &FuncCall, whole: &Expression) -> Eval<Type> {
        let (name, argument) = (call.name.name.as_str(), call.args.get(0).filter(|_| call.args.len() == 1));
        let Some(argument) = argument else { return wrong("bake-value", format!("{name}(…) takes one type"), self.span(whole)) };
        match (name, argument) {
            ("list", of) => Ok(Type::List(Box::new(self.constraint(of)?))),
            ("set", of) => Ok(Type::Set(Box::new(self.constraint(of)?))),
            ("map", of) => Ok(Type::Map(Box::new(self.constraint(of)?))),
            ("tuple", Expression::Array(types)) => Ok(Type::Tuple(types.iter().map(|one| self.constraint(one)).collect::<Eval<_>>()?)),
            ("object", Expression::Object(entries)) => {
                let each = |(key, value): (&ObjectKey, &hcl_edit::expr::ObjectValue)| {
                    let name = match key {
                        ObjectKey::Ident(name) => name.as_str(),
                        ObjectKey::Expression(Expression::Variable(name)) => name.as_str(),
                        ObjectKey::Expression(Expression::String(name)) => name.as_str(),
                        ObjectKey::Expression(other) => return wrong("bake-value", "expected an attribute's name", self.span(other)),
                    };
                    Ok((name.to_owned(), self.constraint(value.expr())?))
                };
                Ok(Type::Object(entries.iter().map(each).collect::<Eval<_>>()?))
            }
            ("tuple", other) => wrong("bake-value", "tuple([…]) takes a list of types", self.span(other)),
            ("object", other) => wrong("bake-value", "object({…}) takes names with types", self.span(other)),
            (other, _) => self.unknown(other, whole),
        }
    }

    fn unknown(&self, name: &str, expression: &Expression) -> Eval<Type> {
        let mut finding = Diagnostic::error("bake-value", format!("there is no type `{name}`")).at(self.span(expression));
        finding.help.extend(strake_source::nearest(name, NAMES).map(|near| format!("did you mean `{near}`?")));
        Err(Box::new(finding))
    }
}
