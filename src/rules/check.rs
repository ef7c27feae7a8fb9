//! Names and types: from a parsed expression to a typed one, or to everything that is wrong with it.
//!
//! Types follow CEL (whole and decimal numbers compare with each other but do not mix in arithmetic). One type is
//! ours: money. A literal number beside money is an amount in major units of the request's billing currency; any
//! other number beside money is an error, because nobody can say in which unit it is.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashSet},
    ops::Range,
};

use super::{
    builtins::{self, Builtin, Function},
    decimal::Decimal,
    finding::did_you_mean,
    guesses,
    lists::FOR_EVER,
    parse::{Expr, ExprKind, Operator},
    typed::{Arithmetic, Bool, Comparison, Float, Int, Money, Text, TextMatch, Typed},
};
use crate::{
    features::{
        catalog::{CATALOG, Type},
        values::Slot,
    },
    limits::AMOUNT_MINOR_MAX,
    types::{auth::Country, lists::ListKind, money::Currency},
};

/// Most digits behind the point of minor units that multiplying by literals may ask for.
pub const MONEY_SCALE_MAX: u32 = 18;

/// Something wrong with an expression.
#[derive(Clone, PartialEq, Debug)]
pub struct Problem {
    /// Bytes of the expression.
    pub span: Range<usize>,
    pub message: String,
    pub help: Option<String>,
}

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Variable {
    pub slot: Slot,
    pub ty: Type,
    pub form: Form,
}

/// Which texts a field can hold at all: a comparison with any other is a slip of the pen.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Form {
    Open,
    Words(&'static [&'static str]),
    /// ISO 3166 alpha-2.
    Country,
    /// Four digits.
    Mcc,
    /// ISO 4217 alphabetic.
    Currency,
}

impl Form {
    /// What such a text looks like.
    pub fn words(self) -> String {
        match self {
            Form::Open => "a text".to_owned(),
            Form::Words(words) => format!("one of: {}", words.join(", ")),
            Form::Country => "two capital letters (ISO 3166 alpha-2)".to_owned(),
            Form::Mcc => "four digits".to_owned(),
            Form::Currency => "three capital letters (ISO 4217)".to_owned(),
        }
    }

    /// # Errors
    /// What is wrong with the text, and what was probably meant.
    pub fn admit(self, text: &str) -> Result<(), (String, Option<String>)> {
        match self {
            Form::Open => Ok(()),
            Form::Words(words) if words.contains(&text) => Ok(()),
            Form::Words(words) => {
                let help = did_you_mean(text, words.iter().copied());
                Err((
                    format!("can never be '{text}'"),
                    help.or_else(|| Some(format!("it is one of: {}", words.join(", ")))),
                ))
            }
            Form::Country if Country::new(text).is_some() => Ok(()),
            Form::Country => Err((
                format!("is a country, '{text}' is not"),
                Some("a country is two capital letters (ISO 3166 alpha-2), such as 'US'".into()),
            )),
            Form::Mcc if text.len() == 4 && text.bytes().all(|b| b.is_ascii_digit()) => Ok(()),
            Form::Mcc => Err((
                format!("is a merchant category code, '{text}' is not"),
                Some("a merchant category code is four digits, such as '6011'".into()),
            )),
            Form::Currency if Currency::from_alpha(text).is_some() => Ok(()),
            Form::Currency => Err((
                format!("is a currency, '{text}' is not"),
                Some("a currency is three capital letters (ISO 4217), such as 'USD'".into()),
            )),
        }
    }
}

/// The names that an expression may use.
#[derive(Default)]
pub struct Scope {
    pub variables: BTreeMap<String, Variable>,
    /// The places of `lists.NAME` in [`Sets::lists`].
    pub lists: BTreeMap<String, usize>,
    /// Names that are known but cannot be used here, and why.
    pub refused: BTreeMap<&'static str, &'static str>,
    /// Names whose declaration is wrong, lists with `lists.` before them: already reported where they are
    /// declared, so that nothing is said where they are used.
    pub broken: HashSet<String>,
    /// Whether declared lists cannot be asked here, whatever their names are.
    pub takes_no_lists: bool,
}

/// A list, by its place in [`Sets`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Set {
    Texts(usize),
    Ints(usize),
    /// Nothing is in it; it goes with both types.
    Empty,
    /// One that the file declares, by its place in [`Sets::lists`].
    Declared(usize),
}

/// A list that the file declares, as far as its conditions have settled what it is.
#[derive(Clone, Default, Debug)]
pub struct ListUse {
    pub name: String,
    /// `None` while its values go with both types and no condition has used it.
    pub kind: Option<ListKind>,
    pub values: Vec<ListValue>,
    /// The file that the values come from; `None` where they stand in the rules file.
    pub from: Option<String>,
    /// Its place among the sets of its kind, once a condition uses it.
    pub set: Option<usize>,
    /// The fields that are looked up in it, and which texts each can hold.
    pub fields: Vec<(Box<str>, Form)>,
}

/// A value as a list has it in the file.
#[derive(Clone, PartialEq, Debug)]
pub struct ListValue {
    pub value: String,
    /// [`FOR_EVER`](super::lists::FOR_EVER) where it has no end.
    pub until: i64,
    pub source: String,
    /// Its line in the file of the list; 0 where it stands in the rules file.
    pub line: u32,
}

/// Every list of a file: those it names and those written into expressions.
#[derive(Clone, Default, Debug)]
pub struct Sets {
    pub texts: Vec<Vec<String>>,
    pub ints: Vec<Vec<i64>>,
    /// When each value ends, for the sets in which one does.
    pub text_ends: BTreeMap<usize, Vec<i64>>,
    pub int_ends: BTreeMap<usize, Vec<i64>>,
    /// The lists that the file declares, in its order.
    pub lists: Vec<ListUse>,
}

impl Sets {
    pub fn add_texts(&mut self, texts: Vec<String>) -> Set {
        self.texts.push(texts);
        Set::Texts(self.texts.len() - 1)
    }

    pub fn add_ints(&mut self, ints: Vec<i64>) -> Set {
        self.ints.push(ints);
        Set::Ints(self.ints.len() - 1)
    }

    /// The declared list that a set of texts belongs to: calls may change it, so that nothing follows from what it holds.
    pub fn list_of_texts(&self, set: usize) -> Option<&ListUse> {
        self.list_of(ListKind::Texts, set)
    }

    pub fn list_of(&self, kind: ListKind, set: usize) -> Option<&ListUse> {
        self.lists.iter().find(|list| list.kind == Some(kind) && list.set == Some(set))
    }

    /// The set of a declared list that is used with this kind of value; `None` where it holds the other.
    ///
    /// # Errors
    /// The first value that is none of this kind.
    fn use_list(&mut self, place: usize, kind: ListKind) -> Result<Option<usize>, ListValue> {
        let list = &mut self.lists[place];
        if list.kind.is_some_and(|known| known != kind) {
            return Ok(None);
        }
        if let Some(bad) = list.values.iter().find(|value| kind.admit(&value.value).is_none()) {
            return Err(bad.clone());
        }
        list.kind = Some(kind);
        if list.set.is_some() {
            return Ok(list.set);
        }
        let ends: Vec<i64> = list.values.iter().map(|value| value.until).collect();
        let (set, all_ends) = match kind {
            ListKind::Texts => {
                self.texts.push(list.values.iter().map(|value| value.value.clone()).collect());
                (self.texts.len() - 1, &mut self.text_ends)
            }
            ListKind::Ints => {
                self.ints.push(list.values.iter().filter_map(|value| value.value.parse().ok()).collect());
                (self.ints.len() - 1, &mut self.int_ends)
            }
        };
        if ends.iter().any(|end| *end != FOR_EVER) {
            all_ends.insert(set, ends);
        }
        list.set = Some(set);
        Ok(Some(set))
    }
}

/// Checks one expression of the file.
pub struct Checker<'a> {
    pub source: &'a str,
    pub scope: &'a Scope,
    pub sets: &'a mut Sets,
    /// Names of variables, and of lists with `lists.` before them, that were used.
    pub used: &'a mut HashSet<String>,
    pub problems: Vec<Problem>,
    /// Whether something is wrong that is told elsewhere: where a name is declared, or by the parser.
    has_unreadable: bool,
}

impl<'a> Checker<'a> {
    pub fn new(
        source: &'a str,
        scope: &'a Scope,
        sets: &'a mut Sets,
        used: &'a mut HashSet<String>,
    ) -> Checker<'a> {
        Checker { source, scope, sets, used, problems: Vec::new(), has_unreadable: false }
    }

    /// The typed form of a condition; `None` where something is wrong, which is then in `problems`: everything that does
    /// not follow from what else is there.
    pub fn condition(&mut self, expr: &Expr) -> Option<Bool> {
        let condition = self.truth(expr);
        condition.filter(|_| self.problems.is_empty() && !self.has_unreadable)
    }

    fn truth(&mut self, expr: &Expr) -> Option<Bool> {
        match self.expr(expr)? {
            Typed::Bool(condition) => Some(condition),
            other => {
                let help = "compare it with something, such as `x > 5`";
                let what = self.text_of(expr);
                self.wrong(
                    expr,
                    format!("a condition is true or false; `{what}` is {}", type_of(&other)),
                    help,
                )
            }
        }
    }

    /// The typed form of an expression. Where something in it is wrong, `None` says that its type is not known, so that
    /// nothing follows from it; what is true or false whatever stands in it comes back as [`some_truth`].
    fn expr(&mut self, expr: &Expr) -> Option<Typed> {
        Some(match &expr.kind {
            ExprKind::Bool(value) => Typed::Bool(Bool::Const(*value)),
            ExprKind::Int(value) => Typed::Int(Int::Const(*value)),
            ExprKind::Float(value, exact) => Typed::Float(Float::Const(*value, *exact)),
            ExprKind::Text(text) => Typed::Text(Text::Const(text.clone())),
            ExprKind::Name(name) => self.name(expr, name)?,
            ExprKind::Wrong => return self.told_elsewhere(),
            ExprKind::Not(inner) => match self.expr(inner)? {
                Typed::Bool(inner) => Typed::Bool(Bool::Not(Box::new(inner))),
                other => {
                    let what = self.text_of(inner);
                    let message = format!("`!` needs true or false; `{what}` is {}", type_of(&other));
                    return self.wrong(expr, message, "write `!(..)` around the whole comparison");
                }
            },
            ExprKind::Neg(inner) => match self.expr(inner)? {
                Typed::Int(Int::Const(value)) => match value.checked_neg() {
                    Some(value) => Typed::Int(Int::Const(value)),
                    None => return self.wrong(expr, "the number does not fit", None),
                },
                Typed::Float(Float::Const(value, exact)) => {
                    Typed::Float(Float::Const(-value, exact.and_then(Decimal::negated)))
                }
                Typed::Int(inner) => Typed::Int(Int::Neg(Box::new(inner))),
                Typed::Float(inner) => Typed::Float(Float::Neg(Box::new(inner))),
                Typed::Money(inner) => Typed::Money(Money::Neg(Box::new(inner))),
                other => {
                    let what = self.text_of(inner);
                    let message = format!("`-` needs a number; `{what}` is {}", type_of(&other));
                    return self.wrong(expr, message, None);
                }
            },
            ExprKind::Binary(operator, left, right) => self.binary(expr, *operator, left, right)?,
            ExprKind::Conditional(condition, then, otherwise) => {
                self.conditional(condition, then, otherwise)?
            }
            ExprKind::List(_) => {
                return self.wrong(expr, "a list stands only to the right of `in`", None);
            }
            ExprKind::Call { function, receiver, arguments } => {
                self.call(expr, function, receiver.as_deref(), arguments)?
            }
        })
    }

    fn name(&mut self, expr: &Expr, name: &str) -> Option<Typed> {
        let Some(variable) = self.variable(name) else { return self.unknown_name(expr, name) };
        let slot = variable.slot;
        Some(match variable.ty {
            Type::Bool => Typed::Bool(Bool::Slot(slot)),
            Type::Int => Typed::Int(Int::Slot(slot)),
            Type::Float => Typed::Float(Float::Slot(slot)),
            Type::Money => Typed::Money(Money::Slot(slot)),
            Type::Text => Typed::Text(Text::Slot(slot)),
        })
    }

    fn variable(&mut self, name: &str) -> Option<Variable> {
        let variable = self.scope.variables.get(name).copied()?;
        self.used.insert(name.to_string());
        Some(variable)
    }

    fn unknown_name<T>(&mut self, expr: &Expr, name: &str) -> Option<T> {
        if self.scope.broken.contains(name) {
            return self.told_elsewhere();
        }
        if let Some(why) = self.scope.refused.get(name) {
            return self.wrong(expr, format!("`{name}` cannot be used here"), *why);
        }
        if name == "lists" || name.starts_with("lists.") || self.scope.lists.contains_key(name) {
            let list = name.strip_prefix("lists.").unwrap_or("NAME");
            let list = if self.scope.lists.contains_key(name) { name } else { list };
            return self.wrong(
                expr,
                "a list stands only to the right of `in`",
                format!("write `merchant.id in lists.{list}`"),
            );
        }
        let is_word = |variable: &Variable| match variable.form {
            Form::Words(words) => words.contains(&name),
            Form::Country => Country::new(name).is_some(),
            Form::Currency => Currency::from_alpha(name).is_some(),
            Form::Open | Form::Mcc => false,
        };
        let help = if self.scope.variables.values().any(is_word) {
            Some(format!("texts stand in quotes: '{name}'"))
        } else {
            let variables = &self.scope.variables;
            guesses::name(name, |name| variables.contains_key(name))
                .or_else(|| did_you_mean(name, variables.keys().map(String::as_str)))
        };
        self.wrong(expr, format!("unknown name `{name}`"), help)
    }

    fn binary(&mut self, expr: &Expr, operator: Operator, left: &Expr, right: &Expr) -> Option<Typed> {
        match operator {
            Operator::And | Operator::Or => Some(self.logic(operator, left, right)),
            Operator::In => self.membership(expr, left, right).or_else(some_truth),
            Operator::Less => self.truth_of(expr, operator, Comparison::Less, left, right),
            Operator::LessEqual => self.truth_of(expr, operator, Comparison::LessEqual, left, right),
            Operator::Greater => self.truth_of(expr, operator, Comparison::Greater, left, right),
            Operator::GreaterEqual => self.truth_of(expr, operator, Comparison::GreaterEqual, left, right),
            Operator::Equal => self.truth_of(expr, operator, Comparison::Equal, left, right),
            Operator::NotEqual => self.truth_of(expr, operator, Comparison::NotEqual, left, right),
            Operator::Add => self.arithmetic(expr, operator, Arithmetic::Add, left, right),
            Operator::Subtract => self.arithmetic(expr, operator, Arithmetic::Subtract, left, right),
            Operator::Multiply => self.arithmetic(expr, operator, Arithmetic::Multiply, left, right),
            Operator::Divide => self.arithmetic(expr, operator, Arithmetic::Divide, left, right),
            Operator::Remainder => self.arithmetic(expr, operator, Arithmetic::Remainder, left, right),
        }
    }

    fn logic(&mut self, operator: Operator, left: &Expr, right: &Expr) -> Typed {
        let mut sides = Vec::with_capacity(2);
        for side in [left, right] {
            match self.expr(side) {
                Some(Typed::Bool(Bool::All(terms))) if operator == Operator::And => sides.extend(terms),
                Some(Typed::Bool(Bool::Any(terms))) if operator == Operator::Or => sides.extend(terms),
                Some(Typed::Bool(term)) => sides.push(term),
                Some(other) => {
                    let what = self.text_of(side);
                    let symbol = operator.symbol();
                    let message = format!("`{symbol}` needs true or false; `{what}` is {}", type_of(&other));
                    let help = self
                        .one_of_several(left, right)
                        .unwrap_or_else(|| "compare it with something, such as `x > 5`".to_string());
                    self.wrong::<()>(side, message, help);
                }
                None => {}
            }
        }
        Typed::Bool(if operator == Operator::And { Bool::All(sides) } else { Bool::Any(sides) })
    }

    /// What `x == 'a' || 'b'` should be.
    fn one_of_several(&self, left: &Expr, right: &Expr) -> Option<String> {
        let last = match &left.kind {
            ExprKind::Binary(Operator::Or, _, last) => last,
            _ => left,
        };
        let ExprKind::Binary(Operator::Equal, field, first) = &last.kind else { return None };
        let is_literal = |expr: &Expr| matches!(expr.kind, ExprKind::Text(_) | ExprKind::Int(_));
        (is_literal(first) && is_literal(right)).then(|| {
            let (field, first) = (self.text_of(field), self.text_of(first));
            format!("write `{field} in [{first}, {}]`", self.text_of(right))
        })
    }

    fn truth_of(
        &mut self,
        expr: &Expr,
        operator: Operator,
        comparison: Comparison,
        left: &Expr,
        right: &Expr,
    ) -> Option<Typed> {
        self.compare(expr, operator, comparison, left, right).or_else(some_truth)
    }

    fn compare(
        &mut self,
        expr: &Expr,
        operator: Operator,
        comparison: Comparison,
        left_expr: &Expr,
        right_expr: &Expr,
    ) -> Option<Typed> {
        let (left, right) = self.both(left_expr, right_expr)?;
        let is_equality = matches!(comparison, Comparison::Equal | Comparison::NotEqual);
        Some(Typed::Bool(match (left, right) {
            (Typed::Int(left), Typed::Int(right)) => Bool::CompareInt(comparison, left, right),
            (Typed::Float(left), Typed::Float(right)) => Bool::CompareFloat(comparison, left, right),
            (Typed::Int(left), Typed::Float(right)) => Bool::CompareIntFloat(comparison, left, right),
            (Typed::Float(left), Typed::Int(right)) => {
                Bool::CompareIntFloat(comparison.mirrored(), right, left)
            }
            (Typed::Money(left), right) => {
                let right = self.money(expr, operator, (left_expr, "money"), right_expr, right)?;
                Bool::CompareMoney(comparison, left, right)
            }
            (left, Typed::Money(right)) => {
                let left = self.money(expr, operator, (right_expr, "money"), left_expr, left)?;
                Bool::CompareMoney(comparison, left, right)
            }
            (Typed::Text(left), Typed::Text(right)) => {
                if is_equality {
                    self.form(left_expr, right_expr)?;
                    self.form(right_expr, left_expr)?;
                }
                Bool::CompareText(comparison, left, right)
            }
            (Typed::Bool(left), Typed::Bool(right)) if is_equality => {
                let same = Bool::Same(Box::new(left), Box::new(right));
                if comparison == Comparison::Equal { same } else { Bool::Not(Box::new(same)) }
            }
            (left, right) => return self.clash(expr, operator, (left_expr, &left), (right_expr, &right)),
        }))
    }

    /// Whether the text on one side can be in the field on the other.
    fn form(&mut self, field: &Expr, text: &Expr) -> Option<()> {
        let (Some((name, variable)), ExprKind::Text(written)) = (self.field(field), &text.kind) else {
            return Some(());
        };
        match variable.form.admit(written) {
            Ok(()) => Some(()),
            Err((message, help)) => self.wrong(text, format!("`{name}` {message}"), help),
        }
    }

    fn arithmetic(
        &mut self,
        expr: &Expr,
        operator: Operator,
        arithmetic: Arithmetic,
        left_expr: &Expr,
        right_expr: &Expr,
    ) -> Option<Typed> {
        let (left, right) = self.both(left_expr, right_expr)?;
        Some(match (left, right) {
            (Typed::Int(_), Typed::Int(Int::Const(0)))
                if matches!(arithmetic, Arithmetic::Divide | Arithmetic::Remainder) =>
            {
                return self.wrong(expr, "division by zero: the result is never known", None);
            }
            (Typed::Int(left), Typed::Int(right)) => {
                Typed::Int(Int::Binary(arithmetic, Box::new(left), Box::new(right)))
            }
            (Typed::Float(_), Typed::Float(_)) if arithmetic == Arithmetic::Remainder => {
                return self.wrong(expr, "`%` is for whole numbers", "write `int(x) % int(y)`");
            }
            (Typed::Float(left), Typed::Float(right)) => {
                Typed::Float(Float::Binary(arithmetic, Box::new(left), Box::new(right)))
            }
            (left @ Typed::Money(_), right) | (left, right @ Typed::Money(_)) => {
                self.money_arithmetic(expr, operator, (left_expr, left), (right_expr, right))?
            }
            (Typed::Int(left), right @ Typed::Float(_)) => {
                return self.mixed(expr, operator, (left_expr, left), (right_expr, right));
            }
            (left @ Typed::Float(_), Typed::Int(right)) => {
                return self.mixed(expr, operator, (right_expr, right), (left_expr, left));
            }
            (Typed::Text(_), Typed::Text(_)) => {
                return self.wrong(expr, format!("`{}` does not join texts", operator.symbol()), None);
            }
            (left, right) => return self.clash(expr, operator, (left_expr, &left), (right_expr, &right)),
        })
    }

    fn money_arithmetic(
        &mut self,
        expr: &Expr,
        operator: Operator,
        (left_expr, left): (&Expr, Typed),
        (right_expr, right): (&Expr, Typed),
    ) -> Option<Typed> {
        let result = match (operator, left, right) {
            (Operator::Add | Operator::Subtract, left, right) => {
                let left = match left {
                    Typed::Money(left) => left,
                    left => self.money(expr, operator, (right_expr, "money"), left_expr, left)?,
                };
                let right = self.money(expr, operator, (left_expr, "money"), right_expr, right)?;
                match operator {
                    Operator::Add => Money::Add(Box::new(left), Box::new(right)),
                    _ => Money::Subtract(Box::new(left), Box::new(right)),
                }
            }
            (Operator::Multiply, Typed::Money(_), Typed::Money(_)) => {
                let help = "one of the two must be a plain number";
                return self.wrong(expr, "money times money means nothing", help);
            }
            (Operator::Multiply, Typed::Money(money), number)
            | (Operator::Multiply, number, Typed::Money(money)) => match number {
                Typed::Int(Int::Const(factor)) => Money::Scale(Decimal::from_int(factor), Box::new(money)),
                Typed::Float(Float::Const(_, Some(factor))) => Money::Scale(factor, Box::new(money)),
                Typed::Int(factor) => Money::Times(Box::new(factor), Box::new(money)),
                Typed::Float(_) => {
                    let help = "multiply by a literal number or a whole number, or divide two amounts and \
                                compare the quotient";
                    return self.wrong(
                        expr,
                        "money times a decimal number that is no literal is not exact",
                        help,
                    );
                }
                other => {
                    let (number, money) = match &left_expr.kind {
                        _ if matches!(other, Typed::Money(_)) => (left_expr, right_expr),
                        _ if self.is_money(left_expr) => (right_expr, left_expr),
                        _ => (left_expr, right_expr),
                    };
                    let (number, money) = (self.text_of(number), self.text_of(money));
                    let message = format!(
                        "`{money}` is money, `{number}` is {}: they cannot be multiplied",
                        type_of(&other)
                    );
                    return self.wrong(expr, message, None);
                }
            },
            (Operator::Divide, Typed::Money(left), Typed::Money(right)) => {
                return Some(Typed::Float(Float::Ratio(Box::new(left), Box::new(right))));
            }
            (Operator::Divide, Typed::Money(_), _) => {
                let help = "multiply by a literal instead: `0.5 * x`";
                return self.wrong(expr, "money divided by a number is not exact", help);
            }
            (_, left, right) => return self.clash(expr, operator, (left_expr, &left), (right_expr, &right)),
        };
        if result.scale() > MONEY_SCALE_MAX {
            return self.wrong(expr, "the factors together have too many decimals to be exact", None);
        }
        Some(Typed::Money(result))
    }

    fn is_money(&self, expr: &Expr) -> bool {
        let ExprKind::Name(name) = &expr.kind else { return false };
        self.scope.variables.get(name).is_some_and(|variable| variable.ty == Type::Money)
    }

    /// What stands beside money, as money: money itself, or a literal in major units.
    fn money(
        &mut self,
        expr: &Expr,
        operator: Operator,
        (beside, beside_type): (&Expr, &str),
        own_expr: &Expr,
        own: Typed,
    ) -> Option<Money> {
        match to_money(own) {
            Ok(money) => Some(money),
            Err(NotMoney::Inexact) => self.wrong(own_expr, "the amount has too many digits", None),
            Err(NotMoney::Other(other)) => {
                let (own, beside) = (self.text_of(own_expr), self.text_of(beside));
                let message = format!(
                    "`{beside}` is {beside_type}, `{own}` is {}: `{}` cannot take both",
                    type_of(&other),
                    operator.symbol()
                );
                let help = match other {
                    Typed::Float(_) if beside == "amount" && own.contains("_major") => {
                        Some("write `amount_major`, which is the amount as a decimal number")
                    }
                    Typed::Int(_) | Typed::Float(_) => {
                        Some("beside money only a literal number is read as an amount (in major units)")
                    }
                    Typed::Text(Text::Const(_)) => Some("amounts are written without quotes: 5.00"),
                    _ => None,
                };
                self.wrong(expr, message, help.map(str::to_string))
            }
        }
    }

    fn conditional(&mut self, condition: &Expr, then: &Expr, otherwise: &Expr) -> Option<Typed> {
        // A wrong condition says nothing about the types of the results.
        let condition = Box::new(self.truth(condition).unwrap_or(Bool::Const(false)));
        let (then_typed, otherwise_typed) = self.both(then, otherwise)?;
        Some(match (then_typed, otherwise_typed) {
            (Typed::Bool(a), Typed::Bool(b)) => Typed::Bool(Bool::If(condition, Box::new(a), Box::new(b))),
            (Typed::Int(a), Typed::Int(b)) => Typed::Int(Int::If(condition, Box::new(a), Box::new(b))),
            (Typed::Float(a), Typed::Float(b)) => {
                Typed::Float(Float::If(condition, Box::new(a), Box::new(b)))
            }
            (Typed::Text(a), Typed::Text(b)) => Typed::Text(Text::If(condition, Box::new(a), Box::new(b))),
            (a, b) => {
                let types = (type_of(&a), type_of(&b));
                let has_money = matches!(a, Typed::Money(_)) || matches!(b, Typed::Money(_));
                match (to_money(a), to_money(b)) {
                    (Ok(a), Ok(b)) if has_money => {
                        Typed::Money(Money::If(condition, Box::new(a), Box::new(b)))
                    }
                    _ => {
                        let help = match (&then.kind, &otherwise.kind) {
                            (ExprKind::Int(value), _) | (_, ExprKind::Int(value)) if !has_money => {
                                Some(format!("write `{value}.0`"))
                            }
                            _ => None,
                        };
                        let (a, b) = (self.text_of(then), self.text_of(otherwise));
                        let message = format!(
                            "both results of `?:` need one type; `{a}` is {}, `{b}` is {}",
                            types.0, types.1
                        );
                        return self.wrong(otherwise, message, help);
                    }
                }
            }
        })
    }

    fn membership(&mut self, expr: &Expr, left_expr: &Expr, right: &Expr) -> Option<Typed> {
        let left = self.expr(left_expr);
        if let Some(other) = left.as_ref().filter(|left| !matches!(left, Typed::Text(_) | Typed::Int(_))) {
            let (what, ty) = (self.text_of(left_expr), type_of(other));
            let message = format!("`in` takes texts and whole numbers; `{what}` is {ty}");
            self.wrong::<()>(expr, message, None);
        }
        let (set, list_name) = match &right.kind {
            ExprKind::List(items) => {
                self.literal_forms(left_expr, items);
                (self.literal_set(items), None)
            }
            ExprKind::Name(name) => match name.strip_prefix("lists.") {
                Some(list) => match self.scope.lists.get(list) {
                    Some(place) => {
                        self.used.insert(name.clone());
                        (Some(Set::Declared(*place)), Some(list))
                    }
                    None if self.scope.broken.contains(name) => return self.told_elsewhere(),
                    None if self.scope.takes_no_lists => {
                        let help = "write its values out: `in ['a', 'b']`; or ask the list in the rule";
                        return self.wrong(right, "a filter of past events takes no declared list", help);
                    }
                    None => {
                        let help = did_you_mean(list, self.scope.lists.keys().map(String::as_str))
                            .unwrap_or_else(|| format!("declare it: `[lists.{list}]` with `values = [..]`"));
                        return self.wrong(right, format!("unknown list `{list}`"), help);
                    }
                },
                None => {
                    let help = match self.scope.lists.contains_key(name) {
                        true => Some(format!("write `in lists.{name}`")),
                        false => Some("write `in lists.NAME` or `in ['a', 'b']`".to_string()),
                    };
                    return self.wrong(right, "to the right of `in` stands a list", help);
                }
            },
            ExprKind::Wrong => return self.told_elsewhere(),
            _ => {
                let help = "write `in lists.NAME` or `in ['a', 'b']`";
                return self.wrong(right, "to the right of `in` stands a list", help);
            }
        };
        let (left, set) = (left?, set?);
        let set = match (&left, set) {
            (Typed::Text(_), Set::Declared(place)) => self.declared(right, place, ListKind::Texts)?,
            (Typed::Int(_), Set::Declared(place)) => self.declared(right, place, ListKind::Ints)?,
            (_, set) => set,
        };
        let membership = match (left, set) {
            (Typed::Text(text), Set::Texts(set)) => {
                if let Some(list) = list_name {
                    self.forms(left_expr, right, list, set);
                }
                Bool::TextIn(text, set)
            }
            (Typed::Int(int), Set::Ints(set)) => Bool::IntIn(int, set),
            (Typed::Text(text), Set::Empty) => {
                let Set::Texts(set) = self.sets.add_texts(Vec::new()) else { return None };
                Bool::TextIn(text, set)
            }
            (Typed::Int(int), Set::Empty) => {
                let Set::Ints(set) = self.sets.add_ints(Vec::new()) else { return None };
                Bool::IntIn(int, set)
            }
            (left, set) => {
                let what = self.text_of(left_expr);
                let is_texts = match set {
                    Set::Declared(place) => self.sets.lists[place].kind == Some(ListKind::Texts),
                    set => matches!(set, Set::Texts(_)),
                };
                let items = if is_texts { "texts" } else { "whole numbers" };
                let help = match left {
                    Typed::Text(_) => "put its values into quotes, such as '6011'",
                    Typed::Int(_) => "write its values without quotes",
                    // Said above.
                    _ => return None,
                };
                return self.wrong(
                    expr,
                    format!("`{what}` is {}, the list has {items}", type_of(&left)),
                    help,
                );
            }
        };
        Some(Typed::Bool(membership))
    }

    /// The set of a declared list that a value of this kind is looked up in; the list itself where it holds the other.
    fn declared(&mut self, list_expr: &Expr, place: usize, kind: ListKind) -> Option<Set> {
        match self.sets.use_list(place, kind) {
            Ok(None) => Some(Set::Declared(place)),
            Ok(Some(set)) => Some(match kind {
                ListKind::Texts => Set::Texts(set),
                ListKind::Ints => Set::Ints(set),
            }),
            Err(bad) => {
                let list = &self.sets.lists[place];
                let from = list.from.as_deref().unwrap_or("the list");
                let message = format!("`{}` ({from}, line {}) is no whole number", bad.value, bad.line);
                self.wrong(list_expr, message, "the list is compared with whole numbers here")
            }
        }
    }

    /// Whether every text of a declared list can be in the field.
    fn forms(&mut self, field: &Expr, list: &Expr, list_name: &str, set: usize) {
        let Some((name, variable)) = self.field(field) else { return };
        let form = variable.form;
        let mut lines = Vec::new();
        if let Some(listed) = self.sets.lists.iter_mut().find(|listed| listed.name == list_name) {
            let own_name = CATALOG.get(usize::from(variable.slot)).map_or(name, |entry| entry.name);
            if !listed.fields.iter().any(|(field, _)| **field == *own_name) {
                listed.fields.push((own_name.into(), form));
            }
            if let Some(from) = &listed.from {
                lines.extend(listed.values.iter().map(|value| format!(": {from}, line {}", value.line)));
            }
        }
        for (index, text) in self.sets.texts[set].clone().iter().enumerate() {
            let Err((message, help)) = form.admit(text) else { continue };
            let line = lines.get(index).map_or("", String::as_str);
            self.wrong::<()>(list, format!("`{name}` {message} (in list `{list_name}`{line})"), help);
        }
    }

    /// Whether every text that is written into the condition can be in the field.
    fn literal_forms(&mut self, field: &Expr, items: &[Expr]) {
        let Some((name, variable)) = self.field(field) else { return };
        for item in items {
            if let ExprKind::Text(text) = &item.kind
                && let Err((message, help)) = variable.form.admit(text)
            {
                self.wrong::<()>(item, format!("`{name}` {message}"), help);
            }
        }
    }

    /// A name and what it stands for.
    fn field<'e>(&self, expr: &'e Expr) -> Option<(&'e str, Variable)> {
        let ExprKind::Name(name) = &expr.kind else { return None };
        Some((name, *self.scope.variables.get(name)?))
    }

    fn literal_set(&mut self, items: &[Expr]) -> Option<Set> {
        let (mut texts, mut ints) = (Vec::new(), Vec::new());
        let problems = self.problems.len();
        for item in items {
            match &item.kind {
                ExprKind::Text(text) if ints.is_empty() => texts.push(text.clone()),
                ExprKind::Int(int) if texts.is_empty() => ints.push(*int),
                ExprKind::Text(_) | ExprKind::Int(_) => {
                    self.wrong::<()>(item, "the items of a list need one type", None);
                }
                _ => {
                    let help = "list texts or whole numbers; compare anything else with ==";
                    self.wrong::<()>(item, "a list holds only literals", help);
                }
            }
        }
        if self.problems.len() > problems {
            return None;
        }
        Some(match (texts.is_empty(), ints.is_empty()) {
            (true, true) => Set::Empty,
            (false, _) => self.sets.add_texts(texts),
            (true, false) => self.sets.add_ints(ints),
        })
    }

    fn call(
        &mut self,
        expr: &Expr,
        name: &str,
        receiver: Option<&Expr>,
        arguments: &[Expr],
    ) -> Option<Typed> {
        let Some(builtin) = builtins::lookup(name) else {
            // `exists(x)` asks something else than the loop `list.exists(x, ..)`.
            if let (Some(help), true) =
                (guesses::function(name), receiver.is_none() || builtins::refusal(name).is_none())
            {
                return self.wrong(expr, format!("unknown function `{name}`"), help);
            }
            if let Some(why) = builtins::refusal(name) {
                return self.wrong(expr, format!("rules do not have `{name}`"), why);
            }
            let help = did_you_mean(name, builtins::BUILTINS.iter().map(|builtin| builtin.name));
            self.wrong::<()>(expr, format!("unknown function `{name}`"), help);
            self.each(receiver, arguments);
            return None;
        };
        if receiver.is_some() != builtin.is_method {
            let message = match builtin.is_method {
                true => format!("`{name}` is called on a text"),
                false => format!("`{name}` is not called on a value"),
            };
            self.wrong::<()>(expr, message, usage(builtin));
            // What it is called on may be no value at all, such as `Math`.
            self.each(None, arguments);
            return builtin.function.result();
        }
        if arguments.len() != builtin.arguments {
            let message = format!(
                "`{name}` takes {} argument{}, not {}",
                builtin.arguments,
                if builtin.arguments == 1 { "" } else { "s" },
                arguments.len()
            );
            self.wrong::<()>(expr, message, usage(builtin));
            self.each(receiver, arguments);
            return builtin.function.result();
        }
        let called = match builtin.function {
            Function::Has => self.has(&arguments[0]),
            _ => self.each(receiver, arguments).and_then(|typed| self.apply(expr, builtin, typed)),
        };
        called.or_else(|| builtin.function.result())
    }

    /// What a function is given, each of which may have problems of its own.
    fn each(&mut self, receiver: Option<&Expr>, arguments: &[Expr]) -> Option<Vec<Typed>> {
        let typed: Vec<Option<Typed>> = receiver.into_iter().chain(arguments).map(|e| self.expr(e)).collect();
        typed.into_iter().collect()
    }

    fn has(&mut self, argument: &Expr) -> Option<Typed> {
        let ExprKind::Name(name) = &argument.kind else {
            let help = match &argument.kind {
                ExprKind::Text(name) if self.scope.variables.contains_key(name) => {
                    Some(format!("write `has({name})`"))
                }
                _ => None,
            };
            return self.wrong(argument, "`has` takes the name of a field, feature or aggregate", help);
        };
        match self.variable(name) {
            Some(variable) => Some(Typed::Bool(Bool::Has(variable.slot))),
            None => self.unknown_name(argument, name),
        }
    }

    fn apply(&mut self, expr: &Expr, builtin: &Builtin, arguments: Vec<Typed>) -> Option<Typed> {
        let types: Vec<&str> = arguments.iter().map(type_of).collect();
        let mut arguments = arguments.into_iter();
        let (first, second) = (arguments.next(), arguments.next());
        let typed = match (builtin.function, first, second) {
            (Function::StartsWith, Some(Typed::Text(text)), Some(Typed::Text(part))) => {
                Typed::Bool(Bool::Match(TextMatch::StartsWith, text, part))
            }
            (Function::EndsWith, Some(Typed::Text(text)), Some(Typed::Text(part))) => {
                Typed::Bool(Bool::Match(TextMatch::EndsWith, text, part))
            }
            (Function::Contains, Some(Typed::Text(text)), Some(Typed::Text(part))) => {
                Typed::Bool(Bool::Match(TextMatch::Contains, text, part))
            }
            (Function::Size, Some(Typed::Text(text)), None) => Typed::Int(Int::Size(text)),
            (Function::Abs, Some(Typed::Int(x)), None) => Typed::Int(Int::Abs(Box::new(x))),
            (Function::Abs, Some(Typed::Float(x)), None) => Typed::Float(Float::Abs(Box::new(x))),
            (Function::Abs, Some(Typed::Money(x)), None) => Typed::Money(Money::Abs(Box::new(x))),
            (Function::Double, Some(Typed::Int(x)), None) => Typed::Float(Float::FromInt(Box::new(x))),
            (Function::Int, Some(Typed::Float(x)), None) => Typed::Int(Int::FromFloat(Box::new(x))),
            // As in CEL, what is of the type already stays as it is.
            (Function::Double, Some(Typed::Float(x)), None) => Typed::Float(x),
            (Function::Int, Some(Typed::Int(x)), None) => Typed::Int(x),
            (Function::Min, Some(x), Some(y)) => return self.pick(expr, builtin, Ordering::Less, x, y),
            (Function::Max, Some(x), Some(y)) => return self.pick(expr, builtin, Ordering::Greater, x, y),
            _ => {
                let message = format!("`{}` cannot take {}", builtin.name, types.join(" and "));
                return self.wrong(expr, message, usage(builtin));
            }
        };
        Some(typed)
    }

    fn pick(&mut self, expr: &Expr, builtin: &Builtin, side: Ordering, x: Typed, y: Typed) -> Option<Typed> {
        let types = (type_of(&x), type_of(&y));
        Some(match (x, y) {
            (Typed::Int(x), Typed::Int(y)) => Typed::Int(Int::Pick(side, Box::new(x), Box::new(y))),
            (Typed::Float(x), Typed::Float(y)) => Typed::Float(Float::Pick(side, Box::new(x), Box::new(y))),
            (x, y) => {
                let has_money = matches!(x, Typed::Money(_)) || matches!(y, Typed::Money(_));
                match (to_money(x), to_money(y)) {
                    (Ok(x), Ok(y)) if has_money => Typed::Money(Money::Pick(side, Box::new(x), Box::new(y))),
                    _ => {
                        let message = format!(
                            "`{}` needs two numbers or two amounts, not {} and {}",
                            builtin.name, types.0, types.1
                        );
                        return self.wrong(expr, message, usage(builtin));
                    }
                }
            }
        })
    }

    /// Both sides, each of which may have problems of its own.
    fn both(&mut self, left: &Expr, right: &Expr) -> Option<(Typed, Typed)> {
        let (left, right) = (self.expr(left), self.expr(right));
        Some((left?, right?))
    }

    fn mixed(
        &mut self,
        expr: &Expr,
        operator: Operator,
        (int_expr, int): (&Expr, Int),
        (float_expr, _): (&Expr, Typed),
    ) -> Option<Typed> {
        let (whole, decimal) = (self.text_of(int_expr), self.text_of(float_expr));
        let message = format!(
            "`{whole}` is a whole number, `{decimal}` is a decimal number: `{}` cannot take both",
            operator.symbol()
        );
        let help = match int {
            Int::Const(value) => format!("write `{value}.0`"),
            _ => format!("write `double({whole})`"),
        };
        self.wrong(expr, message, help)
    }

    fn clash(
        &mut self,
        expr: &Expr,
        operator: Operator,
        (left_expr, left): (&Expr, &Typed),
        (right_expr, right): (&Expr, &Typed),
    ) -> Option<Typed> {
        let (left_text, right_text) = (self.text_of(left_expr), self.text_of(right_expr));
        let message = format!(
            "`{left_text}` is {}, `{right_text}` is {}: `{}` cannot take both",
            type_of(left),
            type_of(right),
            operator.symbol()
        );
        let quoted_number = |text: &Typed| match text {
            Typed::Text(Text::Const(text)) => text.parse::<f64>().is_ok(),
            _ => false,
        };
        let is_ordering = |operator: &Operator| {
            matches!(
                operator,
                Operator::Less | Operator::LessEqual | Operator::Greater | Operator::GreaterEqual
            )
        };
        let chained = match &left_expr.kind {
            ExprKind::Binary(first, _, middle) if is_ordering(first) && is_ordering(&operator) => {
                Some(self.text_of(middle))
            }
            _ => None,
        };
        let help = match (left, right) {
            (Typed::Bool(_), _) if chained.is_some() => chained
                .map(|middle| format!("write `{left_text} && {middle} {} {right_text}`", operator.symbol())),
            (Typed::Bool(_), Typed::Text(Text::Const(_)) | Typed::Int(Int::Const(_))) => {
                let contrary = match &left_expr.kind {
                    ExprKind::Binary(..) | ExprKind::Conditional(..) => format!("!({left_text})"),
                    _ => format!("!{left_text}"),
                };
                Some(format!("write `{left_text}`, or `{contrary}` for the contrary"))
            }
            (Typed::Text(_), Typed::Int(_) | Typed::Float(_)) if !quoted_number(left) => {
                Some(format!("texts stand in quotes: '{right_text}'"))
            }
            _ if quoted_number(left) || quoted_number(right) => {
                Some("numbers are written without quotes".to_string())
            }
            _ => None,
        };
        self.wrong(expr, message, help)
    }

    fn told_elsewhere<T>(&mut self) -> Option<T> {
        self.has_unreadable = true;
        None
    }

    fn text_of(&self, expr: &Expr) -> &str {
        self.source.get(expr.span.clone()).unwrap_or("..")
    }

    fn wrong<T>(&mut self, at: &Expr, message: impl Into<String>, help: impl IntoHelp) -> Option<T> {
        self.problems.push(Problem {
            span: at.span.clone(),
            message: message.into(),
            help: help.into_help(),
        });
        None
    }
}

/// In place of a condition in which something is wrong: what it is compared with or joined to can be checked all the same.
fn some_truth() -> Option<Typed> {
    Some(Typed::Bool(Bool::Const(false)))
}

impl Function {
    /// In place of a call in which something is wrong, where its type does not depend on what it is given.
    fn result(self) -> Option<Typed> {
        match self {
            Function::Has | Function::StartsWith | Function::EndsWith | Function::Contains => some_truth(),
            // Of no use but for their types; a literal would be taken for an amount beside money.
            Function::Size | Function::Int => Some(Typed::Int(Int::Slot(0))),
            Function::Double => Some(Typed::Float(Float::Slot(0))),
            Function::Abs | Function::Min | Function::Max => None,
        }
    }
}

/// What may be given as help: a text, none, or either.
trait IntoHelp {
    fn into_help(self) -> Option<String>;
}

impl IntoHelp for &str {
    fn into_help(self) -> Option<String> {
        Some(self.to_string())
    }
}

impl IntoHelp for String {
    fn into_help(self) -> Option<String> {
        Some(self)
    }
}

impl IntoHelp for Option<String> {
    fn into_help(self) -> Option<String> {
        self
    }
}

/// How messages call a type.
pub fn type_name(ty: Type) -> &'static str {
    match ty {
        Type::Bool => "true or false",
        Type::Int => "a whole number",
        Type::Float => "a decimal number",
        Type::Money => "money",
        Type::Text => "text",
    }
}

fn type_of(typed: &Typed) -> &'static str {
    type_name(match typed {
        Typed::Bool(_) => Type::Bool,
        Typed::Int(_) => Type::Int,
        Typed::Float(_) => Type::Float,
        Typed::Money(_) => Type::Money,
        Typed::Text(_) => Type::Text,
    })
}

fn usage(builtin: &Builtin) -> String {
    format!("write `{}`: {}", builtin.usage, builtin.doc)
}

enum NotMoney {
    /// A literal with more digits than can be kept.
    Inexact,
    Other(Typed),
}

/// Money as it is; a literal, or a choice between literals, in major units.
fn to_money(typed: Typed) -> Result<Money, NotMoney> {
    match typed {
        Typed::Money(money) => Ok(money),
        Typed::Int(Int::Const(value)) => literal(Decimal::from_int(value)),
        Typed::Float(Float::Const(_, Some(value))) => literal(value),
        Typed::Float(Float::Const(_, None)) => Err(NotMoney::Inexact),
        Typed::Int(Int::If(condition, a, b)) => {
            Ok(Money::If(condition, Box::new(to_money(Typed::Int(*a))?), Box::new(to_money(Typed::Int(*b))?)))
        }
        Typed::Float(Float::If(condition, a, b)) => Ok(Money::If(
            condition,
            Box::new(to_money(Typed::Float(*a))?),
            Box::new(to_money(Typed::Float(*b))?),
        )),
        other => Err(NotMoney::Other(other)),
    }
}

/// An amount no larger than any amount on the wire could be: so it fits at every scale.
fn literal(value: Decimal) -> Result<Money, NotMoney> {
    let major = value.mantissa().unsigned_abs() / 10_u64.pow(value.scale());
    match major <= AMOUNT_MINOR_MAX as u64 {
        true => Ok(Money::Literal(value)),
        false => Err(NotMoney::Inexact),
    }
}
