//! The one file that knows the `cel` crate: from the text of an expression to our own small tree.
//!
//! Only its parser is used. Macros are off, so `has(x)` is an ordinary call and loops (`all`, `exists`, `map`, ..)
//! arrive as calls that the checker refuses by name. Nothing here knows fields or types.

use std::{cell::RefCell, ops::Range};

use cel::{
    Env, IdedExpr,
    common::ast::{Expr as CelExpr, LiteralValue, SourceInfo, operators},
};

use super::{decimal::Decimal, guesses};
use crate::limits::{EXPRESSION_BYTES_MAX, EXPRESSION_NESTING_MAX};

/// One node of an expression.
#[derive(Clone, PartialEq, Debug)]
pub struct Expr {
    pub kind: ExprKind,
    /// Bytes of the expression that the node covers, operands included; brackets around it are not.
    pub span: Range<usize>,
}

#[derive(Clone, PartialEq, Debug)]
pub enum ExprKind {
    Bool(bool),
    Int(i64),
    /// A literal with a decimal point or an exponent, as the nearest double and, where it has few enough digits,
    /// as it was written.
    Float(f64, Option<Decimal>),
    Text(String),
    /// A name, its parts joined by dots: `merchant.country`.
    Name(String),
    Not(Box<Expr>),
    Neg(Box<Expr>),
    Binary(Operator, Box<Expr>, Box<Expr>),
    /// `condition ? then : otherwise`
    Conditional(Box<Expr>, Box<Expr>, Box<Expr>),
    List(Vec<Expr>),
    /// `function(arguments)` or `receiver.function(arguments)`.
    Call {
        function: String,
        receiver: Option<Box<Expr>>,
        arguments: Vec<Expr>,
    },
    /// Something that rules do not have, which is told of as an error.
    Wrong,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operator {
    And,
    Or,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Equal,
    NotEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    In,
}

impl Operator {
    /// As it is written.
    pub fn symbol(self) -> &'static str {
        SYMBOLS.iter().find(|(_, operator, _)| *operator == self).map_or("", |(_, _, symbol)| symbol)
    }
}

const SYMBOLS: [(&str, Operator, &str); 14] = [
    (operators::LOGICAL_AND, Operator::And, "&&"),
    (operators::LOGICAL_OR, Operator::Or, "||"),
    (operators::LESS, Operator::Less, "<"),
    (operators::LESS_EQUALS, Operator::LessEqual, "<="),
    (operators::GREATER, Operator::Greater, ">"),
    (operators::GREATER_EQUALS, Operator::GreaterEqual, ">="),
    (operators::EQUALS, Operator::Equal, "=="),
    (operators::NOT_EQUALS, Operator::NotEqual, "!="),
    (operators::ADD, Operator::Add, "+"),
    (operators::SUBSTRACT, Operator::Subtract, "-"),
    (operators::MULTIPLY, Operator::Multiply, "*"),
    (operators::DIVIDE, Operator::Divide, "/"),
    (operators::MODULO, Operator::Remainder, "%"),
    (operators::IN, Operator::In, "in"),
];

/// What is wrong with the text of an expression, and where in it.
#[derive(Clone, PartialEq, Debug)]
pub struct SyntaxError {
    /// Bytes of the expression.
    pub span: Range<usize>,
    pub message: String,
    pub help: Option<String>,
}

impl SyntaxError {
    fn new(span: Range<usize>, message: impl Into<String>) -> SyntaxError {
        SyntaxError { span, message: message.into(), help: None }
    }
}

/// An expression that cannot be used.
#[derive(Debug)]
pub struct Unparsed {
    /// In the order of the expression, at least one.
    pub errors: Vec<SyntaxError>,
    /// The expression with [`ExprKind::Wrong`] where the errors are, so that the rest of it can be checked; absent where
    /// it is not known what belongs together.
    pub rest: Option<Expr>,
}

/// Parses one expression. The parser takes much stack for nested source: call it on a thread with at least 8 MiB.
///
/// # Errors
/// The first error of syntax, since what a parser says after it is mostly noise; else everything that rules do not have.
pub fn parse(source: &str) -> Result<Expr, Unparsed> {
    let errors = RefCell::default();
    match parse_collecting(source, &errors) {
        Err(error) => Err(Unparsed { errors: vec![error], rest: None }),
        Ok(expr) => match errors.into_inner() {
            none if none.is_empty() => Ok(expr),
            mut errors => {
                errors.sort_by_key(|error| error.span.start);
                Err(Unparsed { errors, rest: Some(expr) })
            }
        },
    }
}

fn parse_collecting(source: &str, errors: &RefCell<Vec<SyntaxError>>) -> Result<Expr, SyntaxError> {
    if source.trim().is_empty() {
        return Err(SyntaxError {
            span: 0..source.len(),
            message: "the expression is empty".into(),
            help: Some("write what must be true, such as `amount > 100`".into()),
        });
    }
    if source.len() > EXPRESSION_BYTES_MAX {
        let message =
            format!("the expression has {} bytes, at most {EXPRESSION_BYTES_MAX} are allowed", source.len());
        return Err(SyntaxError::new(0..1, message));
    }
    // The parser is a large generated program fed with text from outside: a panic in it is one more way in which
    // a text can be wrong, not a reason to lose the other findings of the file.
    let parsed = std::panic::catch_unwind(|| {
        Env::default().with_optional_support(false).parser().parse_with_source_info(source)
    });
    match parsed {
        Ok(Ok((tree, info))) => Converter { source, info: &info, errors }.convert(&tree, 0),
        Ok(Err(errors)) => Err(errors.errors.first().map_or_else(
            || SyntaxError::new(0..source.len(), "the expression cannot be parsed"),
            |error| syntax_error(source, error.pos, &error.msg),
        )),
        Err(_) => Err(SyntaxError {
            span: 0..source.len(),
            message: "the parser gave up on the expression".into(),
            help: Some("write it more simply, and please report it".into()),
        }),
    }
}

/// From the parser's tree to ours.
struct Converter<'a> {
    source: &'a str,
    info: &'a SourceInfo,
    /// What the tree has and rules do not.
    errors: &'a RefCell<Vec<SyntaxError>>,
}

impl Converter<'_> {
    fn convert(&self, node: &IdedExpr, depth: usize) -> Result<Expr, SyntaxError> {
        let token = self.token(node.id);
        if depth > EXPRESSION_NESTING_MAX {
            return Err(nested_too_deeply(token));
        }
        let inner = |node: &IdedExpr| self.convert(node, depth + 1);
        match &node.expr {
            CelExpr::Literal(literal) => Ok(self.literal(literal, token)),
            CelExpr::Ident(_) | CelExpr::Select(_) => Ok(self.name(node, token)),
            CelExpr::List(list) => {
                let items = list.elements.iter().map(inner).collect::<Result<Vec<_>, _>>()?;
                let end = items.last().map_or(token.end, |item| item.span.end);
                let close = self.source[end..].find(']').map_or(end, |at| end + at + 1);
                Ok(Expr { kind: ExprKind::List(items), span: token.start..close })
            }
            CelExpr::Call(call) => {
                let arguments = call.args.iter().map(inner).collect::<Result<Vec<_>, _>>()?;
                let receiver = call.target.as_deref().map(inner).transpose()?;
                self.call(&call.func_name, token, receiver, arguments)
            }
            CelExpr::Map(_) | CelExpr::Struct(_) => Ok(self.wrong(unsupported(token, "maps and structures"))),
            CelExpr::Comprehension(_) => Ok(self.wrong(unsupported(token, "loops"))),
            CelExpr::Unspecified => Err(SyntaxError::new(token, "the expression cannot be parsed")),
        }
    }

    fn wrong(&self, error: SyntaxError) -> Expr {
        let span = error.span.clone();
        self.errors.borrow_mut().push(error);
        Expr { kind: ExprKind::Wrong, span }
    }

    /// The bytes of the token that the parser gave a node: an operator, a bracket, a dot, a literal or a word.
    fn token(&self, id: u64) -> Range<usize> {
        let whole = 0..self.source.len();
        let Some((start, last)) = self.info.offset_for(id) else { return whole };
        let token = start as usize..(last as usize).saturating_add(1);
        if self.source.get(token.clone()).is_some() { token } else { whole }
    }

    fn literal(&self, literal: &LiteralValue, token: Range<usize>) -> Expr {
        let kind = match literal {
            LiteralValue::Boolean(value) => ExprKind::Bool(*value.inner()),
            LiteralValue::Int(value) => ExprKind::Int(*value.inner()),
            LiteralValue::Double(value) => {
                // The token is without its sign, which only the value has.
                let size = self.source.get(token.clone()).and_then(Decimal::parse);
                let exact = if value.is_sign_negative() { size.and_then(Decimal::negated) } else { size };
                ExprKind::Float(*value.inner(), exact)
            }
            LiteralValue::String(value) => ExprKind::Text(value.inner().to_string()),
            LiteralValue::Null => return self.wrong(unsupported(token, "`null`; use `has(..)`")),
            LiteralValue::UInt(_) => return self.wrong(unsupported(token, "unsigned numbers such as `5u`")),
            LiteralValue::Bytes(_) => return self.wrong(unsupported(token, "bytes such as `b'..'`")),
        };
        Expr { kind, span: token }
    }

    /// A name of one or more parts. Walked in a loop, since a chain of dots may be as long as the expression.
    fn name(&self, node: &IdedExpr, token: Range<usize>) -> Expr {
        let mut parts = Vec::new();
        let mut end = None;
        let mut at = node;
        loop {
            match &at.expr {
                CelExpr::Select(select) => {
                    let dot = self.token(at.id).end;
                    // Between the dot and the word nothing but blanks may stand.
                    let word = self.source[dot..].find(select.field.as_str());
                    end.get_or_insert(word.map_or(dot, |gap| dot + gap + select.field.len()));
                    parts.push(select.field.as_str());
                    at = &select.operand;
                }
                CelExpr::Ident(word) if !word.starts_with('.') => {
                    let root = self.token(at.id);
                    parts.push(word);
                    parts.reverse();
                    let span = root.start..end.unwrap_or(root.end).max(root.end);
                    return Expr { kind: ExprKind::Name(parts.join(".")), span };
                }
                _ => return self.wrong(unsupported(token, "a dot behind anything but a name")),
            }
        }
    }

    fn call(
        &self,
        function: &str,
        token: Range<usize>,
        receiver: Option<Expr>,
        arguments: Vec<Expr>,
    ) -> Result<Expr, SyntaxError> {
        let operator =
            SYMBOLS.iter().find(|(name, _, _)| *name == function).map(|(_, operator, _)| *operator);
        let mut boxed = arguments.into_iter().map(Box::new);
        let (kind, span) = match (operator, function) {
            (Some(operator), _) => {
                let (Some(left), Some(right)) = (boxed.next(), boxed.next()) else {
                    return Err(SyntaxError::new(token, "an operand is missing"));
                };
                let span = left.span.start..right.span.end;
                (ExprKind::Binary(operator, left, right), span)
            }
            (None, operators::LOGICAL_NOT | operators::NEGATE) => {
                let Some(operand) = boxed.next() else {
                    return Err(SyntaxError::new(token, "an operand is missing"));
                };
                let span = token.start..operand.span.end;
                let kind = match function {
                    operators::NEGATE => ExprKind::Neg(operand),
                    _ => ExprKind::Not(operand),
                };
                (kind, span)
            }
            (None, operators::CONDITIONAL) => {
                let (Some(condition), Some(then), Some(otherwise)) =
                    (boxed.next(), boxed.next(), boxed.next())
                else {
                    return Err(SyntaxError::new(token, "an operand is missing"));
                };
                let span = condition.span.start..otherwise.span.end;
                (ExprKind::Conditional(condition, then, otherwise), span)
            }
            (None, operators::INDEX) => {
                let parts = (boxed.next().map(|value| value.kind), boxed.next().map(|index| index.kind));
                let mut error = unsupported(token, "`[..]` behind a value");
                if let (Some(ExprKind::Name(name)), Some(ExprKind::Text(part))) = parts {
                    error.help = Some(format!("write `{name}.{part}`"));
                }
                return Ok(self.wrong(error));
            }
            (None, name) => {
                let arguments: Vec<Expr> = boxed.map(|argument| *argument).collect();
                // The node's token is the opening bracket; the name stands before it.
                let before = self.source[..token.start].trim_end();
                let start = before.len() - if before.ends_with(name) { name.len() } else { 0 };
                let end = arguments.last().map_or(token.end, |last| last.span.end);
                let end = self.source[end..].find(')').map_or(end, |at| end + at + 1);
                let start = receiver.as_ref().map_or(start, |receiver| receiver.span.start);
                let receiver = receiver.map(Box::new);
                (ExprKind::Call { function: name.to_string(), receiver, arguments }, start..end)
            }
        };
        Ok(Expr { kind, span })
    }
}

fn unsupported(span: Range<usize>, what: &str) -> SyntaxError {
    SyntaxError::new(span, format!("rules do not have {what}"))
}

fn nested_too_deeply(span: Range<usize>) -> SyntaxError {
    SyntaxError {
        span,
        message: format!("the expression is nested more than {EXPRESSION_NESTING_MAX} deep"),
        help: Some("split it into several rules, or use a list and `in`".into()),
    }
}

/// Turns what the parser says into what a writer of rules can use. The place is given as line and column, both
/// from 1, the column in characters.
fn syntax_error(source: &str, (line, column): (isize, isize), message: &str) -> SyntaxError {
    if message.contains("Recursion limit") {
        return nested_too_deeply(0..source.len());
    }
    let at = byte_of(source, line, column);
    let rest = &source[at..];
    let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    let length = if word > 0 { word } else { rest.chars().next().map_or(0, char::len_utf8) };
    let found = &rest[..length];
    let guess = guesses::syntax(source, at, found);
    let message = match message {
        _ if message.starts_with("reserved identifier") => {
            format!("`{found}` is a reserved word")
        }
        "invalid int literal" | "invalid double literal" => format!("the number `{found}` does not fit"),
        _ if message.starts_with("invalid string literal") => "the text has a wrong escape".to_string(),
        _ if found.is_empty() => "the expression ends too early".to_string(),
        _ => format!("`{found}` is not expected here"),
    };
    let (span, own, help) = match guess {
        Some(guess) => (guess.span, guess.message, Some(guess.help)),
        None => (None, None, None),
    };
    SyntaxError { span: span.unwrap_or(at..at + length), message: own.unwrap_or(message), help }
}

/// The byte of a line and a column, both from 1, the column in characters.
fn byte_of(source: &str, line: isize, column: isize) -> usize {
    let line = usize::try_from(line).unwrap_or(1).max(1) - 1;
    let column = usize::try_from(column).unwrap_or(1).max(1) - 1;
    let start: usize = source.split_inclusive('\n').take(line).map(str::len).sum();
    let rest = &source[start..];
    start + rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at)
}
