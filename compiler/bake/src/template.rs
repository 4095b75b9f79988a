//! Templates: text with `${…}` and `%{…}`.

use hcl_edit::Span as _;
use hcl_edit::expr::Expression;
use hcl_edit::template::{Directive, Element, Template};

use crate::expr::{Eval, Evaluator, Scope, inner_scope, wrong};
use crate::value::Value;

impl Evaluator<'_> {
    /// A quoted template: `"${expression}"` alone is that expression's value, of any kind.
    pub(crate) fn template_value(&self, template: &hcl_edit::template::StringTemplate, scope: &Scope<'_>) -> Eval<Value> {
        let elements: Vec<&Element> = template.iter().collect();
        if let [Element::Interpolation(only)] = elements.as_slice() {
            return self.value(&only.expr, scope);
        }
        self.elements(&elements, scope, (false, false)).map(Value::String)
    }

    /// A JSON text, which is a template.
    pub(crate) fn json_text(&self, text: &str, scope: &Scope<'_>) -> Eval<Value> {
        if !text.contains("${") && !text.contains("%{") {
            return Ok(Value::from(text));
        }
        let template: Template = match text.parse() {
            Ok(template) => template,
            Err(error) => return wrong("bake-syntax", format!("the template cannot be read: {}", syntax(&error)), self.place.span(None)),
        };
        if let Some(Element::Interpolation(only)) = template.as_single_element() {
            return self.value(&only.expr, scope);
        }
        self.template(&template, scope, (false, false)).map(Value::String)
    }

    /// The text of a template. `trim` says whether blanks at its start and its end go, as strip markers outside of it ask for.
    pub(crate) fn template(&self, template: &Template, scope: &Scope<'_>, trim: (bool, bool)) -> Eval<String> {
        self.elements(&template.iter().collect::<Vec<_>>(), scope, trim)
    }

    fn elements(&self, elements: &[&Element], scope: &Scope<'_>, trim: (bool, bool)) -> Eval<String> {
        let mut text = String::new();
        for (at, element) in elements.iter().enumerate() {
            match element {
                Element::Literal(literal) => {
                    let before = if at == 0 { trim.0 } else { strips(elements[at - 1]).1 };
                    let after = elements.get(at + 1).map_or(trim.1, |next| strips(next).0);
                    let mut part = literal.value().as_str();
                    part = if before { part.trim_start() } else { part };
                    part = if after { part.trim_end() } else { part };
                    text.push_str(part);
                }
                Element::Interpolation(interpolation) => text.push_str(&self.inserted(&interpolation.expr, scope)?),
                Element::Directive(directive) => text.push_str(&self.directive(directive, scope)?),
            }
        }
        Ok(text)
    }

    fn inserted(&self, expression: &Expression, scope: &Scope<'_>) -> Eval<String> {
        let value = self.value(expression, scope)?;
        let message = || format!("a template takes text, numbers and truths, and this is {}", value.kind());
        value.to_text().map_or_else(|| wrong("bake-value", message(), self.place.span(expression.span())), Ok)
    }

    fn directive(&self, directive: &Directive, scope: &Scope<'_>) -> Eval<String> {
        match directive {
            Directive::If(chosen) => {
                let (condition, end) = (&chosen.if_expr, chosen.endif_expr.strip.strip_start());
                if self.truth(&condition.cond_expr, scope)? {
                    let end = chosen.else_expr.as_ref().map_or(end, |other| other.strip.strip_start());
                    return self.template(&condition.template, scope, (condition.strip.strip_end(), end));
                }
                let Some(other) = &chosen.else_expr else { return Ok(String::new()) };
                self.template(&other.template, scope, (other.strip.strip_end(), end))
            }
            Directive::For(each) => {
                let head = &each.for_expr;
                let trim = (head.strip.strip_end(), each.endfor_expr.strip.strip_start());
                let mut text = String::new();
                for (key, value) in self.pairs(&head.collection_expr, scope)? {
                    let inner = inner_scope(scope, head.key_var.as_ref().map(|name| name.as_str()), head.value_var.as_str(), key, value);
                    text.push_str(&self.template(&head.template, &inner, trim)?);
                }
                Ok(text)
            }
        }
    }
}

/// Whether an element takes the blanks before and behind it away.
fn strips(element: &Element) -> (bool, bool) {
    match element {
        Element::Literal(_) => (false, false),
        Element::Interpolation(interpolation) => (interpolation.strip.strip_start(), interpolation.strip.strip_end()),
        Element::Directive(directive) => match &**directive {
            Directive::If(chosen) => (chosen.if_expr.strip.strip_start(), chosen.endif_expr.strip.strip_end()),
            Directive::For(each) => (each.for_expr.strip.strip_start(), each.endfor_expr.strip.strip_end()),
        },
    }
}

/// What the parser says, without its own place and snippet.
pub(crate) fn syntax(error: &hcl_edit::parser::Error) -> String {
    error.message().lines().collect::<Vec<_>>().join(", ")
}
