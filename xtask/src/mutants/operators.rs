//! The ways to break a shader in one place.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::ops::Range;

use super::wgsl::{Kind, Shader, precedence_of};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Operator {
    /// An assignment or a call is deleted.
    Delete,
    /// `+` and `-` change places; a unary minus is dropped.
    Sign,
    /// A binary operator and its right operand are dropped, or one of the two arguments of `max` and `min`.
    Drop,
    /// `max` and `min` change places.
    MinMax,
    /// A comparison is turned into its opposite, a condition into its negation.
    Compare,
    /// A comparison includes its bound where it did not, and the other way round.
    Boundary,
    /// An integer is one smaller (an index of 0: one greater).
    Constant,
    /// The arms of `select` change places.
    Select,
    /// A bound excludes one element more: harder to notice than a whole vector.
    Tail,
}

impl Operator {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Sign => "sign",
            Self::Drop => "drop",
            Self::MinMax => "minmax",
            Self::Compare => "compare",
            Self::Boundary => "boundary",
            Self::Constant => "constant",
            Self::Select => "select",
            Self::Tail => "tail",
        }
    }
}

/// One breakage: `span` of the source becomes `replacement`.
#[derive(Clone, Debug)]
pub(crate) struct Breakage {
    pub(crate) operator: Operator,
    pub(crate) span: Range<usize>,
    pub(crate) replacement: String,
}

impl Breakage {
    pub(crate) fn apply(&self, source: &str) -> String {
        [&source[..self.span.start], &self.replacement, &source[self.span.end..]].concat()
    }

    /// The line before and after the span, without its comment.
    pub(crate) fn surroundings<'a>(&self, source: &'a str) -> [&'a str; 2] {
        let Range { start, end } = self.span;
        let line_start = source[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = source[end..].find('\n').map_or(source.len(), |at| end + at);
        let after = source[end..line_end].split("//").next().unwrap_or_default();
        [&source[line_start..start], after]
    }
}

/// Every breakage of a shader, in the order of its lines; two that lead to the same source count once.
pub(crate) fn breakages(shader: &Shader) -> Vec<Breakage> {
    let mut found = Found { shader, breakages: Vec::new() };
    for token in 0..shader.tokens.len() {
        if shader.tokens[token].in_body {
            found.statement(token);
            found.operator(token);
            found.condition(token);
            found.call(token);
            found.constant(token);
        }
    }
    found.leave_out_coarse_deletions();
    let mut seen = HashSet::new();
    found.breakages.retain(|breakage| seen.insert(breakage.apply(shader.source)));
    found.breakages.sort_by_key(|breakage| breakage.span.start);
    found.breakages
}

struct Found<'a> {
    shader: &'a Shader<'a>,
    breakages: Vec<Breakage>,
}

impl<'a> Found<'a> {
    fn add(&mut self, operator: Operator, span: Range<usize>, replacement: impl Into<String>) {
        self.breakages.push(Breakage { operator, span, replacement: replacement.into() });
    }

    fn replace_token(&mut self, operator: Operator, token: usize, replacement: &str) {
        self.add(operator, self.shader.tokens[token].span.clone(), replacement);
    }

    fn text_of(&self, tokens: Range<usize>) -> &'a str {
        &self.shader.source[self.shader.span(tokens)]
    }

    /// Deletes the statement that begins after `token`, if it is an assignment or a call.
    fn statement(&mut self, token: usize) {
        let shader = self.shader;
        let first = token + 1;
        if !["{", "}", ";"].contains(&shader.text(token)) || shader.is_keyword(first) {
            return;
        }
        let mut end = first;
        // A bracket that closes before any `;` ends a block or the head of a `for`.
        while ![";", "", ")", "}", "{"].contains(&shader.text(end)) {
            end = if ["(", "["].contains(&shader.text(end)) { shader.after_closing(end) } else { end + 1 };
        }
        if end > first && shader.text(end) == ";" && !self.is_in_head(first) {
            self.add(Operator::Delete, shader.span(first..end + 1), "");
        }
    }

    /// Where a statement can be broken within, a wrong value is harder to notice than none.
    fn leave_out_coarse_deletions(&mut self) {
        let values = [Operator::Drop, Operator::Constant, Operator::Select];
        let finer: Vec<_> = self.breakages.iter().filter(|it| values.contains(&it.operator)).cloned().collect();
        self.breakages.retain(|deletion| {
            let is_within = |it: &Breakage| deletion.span.start <= it.span.start && it.span.end <= deletion.span.end;
            deletion.operator != Operator::Delete || !finer.iter().any(is_within)
        });
    }

    /// Whether `token` stands in the head of a `for`.
    fn is_in_head(&self, token: usize) -> bool {
        let heads = (0..token).filter(|&at| self.shader.text(at) == "for");
        let mut around = heads.filter(|&at| self.shader.after_closing(at + 1) > token);
        around.next().is_some()
    }

    fn operator(&mut self, token: usize) {
        let shader = self.shader;
        let text = shader.text(token);
        if shader.tokens[token].kind != Kind::Symbol {
            return;
        }
        match text {
            "+=" => self.replace_token(Operator::Sign, token, "-="),
            "-=" => self.replace_token(Operator::Sign, token, "+="),
            "-" if !shader.is_binary(token) => self.replace_token(Operator::Sign, token, ""),
            "!" => self.replace_token(Operator::Compare, token, ""),
            _ if precedence_of(text) > 0 && shader.is_binary(token) => self.binary(token),
            _ => {}
        }
    }

    fn binary(&mut self, token: usize) {
        let shader = self.shader;
        let text = shader.text(token);
        let right = token + 1..shader.operand_end(token + 1, precedence_of(text));
        if ["<", "<=", ">", ">=", "==", "!="].contains(&text) {
            self.comparison(token, right);
            return;
        }
        // One less in the literal is harder to notice than another sign, or nothing there at all.
        if right.len() == 1 && integer(shader.text(right.start)).is_some_and(|(value, _)| value > 0) {
            return;
        }
        let counterpart = match text {
            "+" => "-",
            "-" => "+",
            _ => "",
        };
        if !counterpart.is_empty() && !self.is_index(token) {
            self.replace_token(Operator::Sign, token, counterpart);
        }
        let dropped = shader.tokens[token - 1].span.end..shader.span(right.clone()).end;
        if !(shader.text(right.end) == ";" && self.is_assigned_to(token)) {
            self.add(Operator::Drop, dropped, "");
        }
    }

    /// Whether what stands left of `token` is all that is assigned to itself: `sum = sum` does nothing, as if deleted.
    fn is_assigned_to(&self, token: usize) -> bool {
        let begins = |at: &usize| ["{", "}", ";"].contains(&self.shader.text(*at));
        let first = (0..token).rev().find(begins).map_or(0, |at| at + 1);
        let mut assignments = (first..token).filter(|&at| self.shader.text(at) == "=");
        let Some(equals) = assignments.next().filter(|&at| at > first && at + 1 < token) else {
            return false;
        };
        self.text_of(first..equals) == self.text_of(equals + 1..token)
    }

    /// Whether `token` stands between the brackets of an index.
    fn is_index(&self, token: usize) -> bool {
        let depth = (0..token).fold(0, |depth, at| match self.shader.text(at) {
            "[" => depth + 1,
            "]" => depth - 1,
            _ => depth,
        });
        depth > 0
    }

    fn comparison(&mut self, token: usize, right: Range<usize>) {
        let (opposite, boundary) = match self.shader.text(token) {
            "<" => (">=", "<="),
            "<=" => (">", "<"),
            ">" => ("<=", ">="),
            ">=" => ("<", ">"),
            "==" => ("!=", ""),
            _ => ("==", ""),
        };
        let bound = self.text_of(right.clone());
        let names = ["length", "Length", "count", "end", "len"];
        let is_tail = !boundary.is_empty() && names.iter().any(|name| bound.contains(name));
        if is_tail {
            self.add(Operator::Tail, self.shader.span(right), format!("{bound} - 1u"));
        }
        // Nothing done at all is easier to notice than a tail left out, or a loop that ends early.
        if !is_tail && !self.is_in_head(token) {
            self.replace_token(Operator::Compare, token, opposite);
        }
        if !boundary.is_empty() {
            self.replace_token(Operator::Boundary, token, boundary);
        }
    }

    /// Negates a condition that is neither a comparison nor a negation already: `if nesterov {`.
    fn condition(&mut self, token: usize) {
        if !["if", "while"].contains(&self.shader.text(token)) {
            return;
        }
        let condition = token + 1..self.shader.operand_end(token + 1, 0);
        let is_value = |at| precedence_of(self.shader.text(at)) == 0 && self.shader.text(at) != "!";
        if condition.clone().all(is_value) {
            let negated = format!("!{}", self.text_of(condition.clone()));
            self.add(Operator::Compare, self.shader.span(condition), negated);
        }
    }

    fn call(&mut self, token: usize) {
        let name = self.shader.text(token);
        if !["max", "min", "select"].contains(&name) || self.shader.text(token + 1) != "(" {
            return;
        }
        let end = self.shader.after_closing(token + 1);
        let arguments = self.arguments(token + 2..end - 1);
        match (name, &arguments[..]) {
            ("select", [left, right, condition]) => {
                let swapped = format!("select({right}, {left}, {condition})");
                self.add(Operator::Select, self.shader.span(token..end), swapped);
            }
            ("max" | "min", [left, right]) => {
                // In a tree of them, a leaf is harder to notice than a branch, and one swap stands for all.
                let is_inner = |argument: &str| argument.starts_with(&format!("{name}("));
                let kept = [(left, right), (right, left)].into_iter().filter(|(dropped, _)| !is_inner(dropped));
                for (_, kept) in kept {
                    self.add(Operator::Drop, self.shader.span(token..end), kept);
                }
                if !self.is_argument_of(token, name) {
                    let counterpart = if name == "max" { "min" } else { "max" };
                    self.replace_token(Operator::MinMax, token, counterpart);
                }
            }
            _ => {}
        }
    }

    /// Whether `token` begins an argument of a call of `name`.
    fn is_argument_of(&self, token: usize, name: &str) -> bool {
        let calls = (0..token).filter(|&at| self.shader.text(at) == name && self.shader.text(at + 1) == "(");
        let mut around = calls.filter(|&at| self.shader.after_closing(at + 1) > token);
        around.next().is_some()
    }

    fn arguments(&self, mut tokens: Range<usize>) -> Vec<String> {
        let mut arguments = Vec::new();
        while tokens.start < tokens.end {
            let end = self.shader.operand_end(tokens.start, 0).min(tokens.end);
            arguments.push(self.text_of(tokens.start..end).to_string());
            // Past the comma.
            tokens.start = end + 1;
        }
        arguments
    }

    /// Integers in arithmetic, in comparisons and as indices.
    fn constant(&mut self, token: usize) {
        let shader = self.shader;
        let Some((value, suffix)) = integer(shader.text(token)) else {
            return;
        };
        let before = token.checked_sub(1).map_or("", |before| shader.text(before));
        let after = shader.text(token + 1);
        let is_operand = |operator: &str| {
            precedence_of(operator.strip_suffix('=').unwrap_or(operator)) > 0 || precedence_of(operator) > 0
        };
        let counts = before == "[" || is_operand(before) || precedence_of(after) > 0;
        match value {
            0 if before == "[" && after == "]" => self.replace_token(Operator::Constant, token, &format!("1{suffix}")),
            1.. if counts => self.replace_token(Operator::Constant, token, &format!("{}{suffix}", value - 1)),
            _ => {}
        }
    }
}

/// The value and the suffix of a decimal integer literal.
fn integer(text: &str) -> Option<(u64, &str)> {
    let digits = text.trim_end_matches(['u', 'i']);
    Some((digits.parse().ok()?, &text[digits.len()..]))
}
