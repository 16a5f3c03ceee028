//! Just enough of WGSL's grammar to find the places that can be broken: tokens, without comments, with a note of where
//! each stands.

use std::ops::Range;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Word,
    Number,
    Symbol,
}

#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) span: Range<usize>,
    /// In the body of a function, and not in a template list such as `<f32, 4>`.
    pub(crate) in_body: bool,
    /// A `<`, `>` of a template list, or what stands between them.
    in_template: bool,
}

/// A shader's source and its tokens.
pub(crate) struct Shader<'a> {
    pub(crate) source: &'a str,
    pub(crate) tokens: Vec<Token>,
    /// The comments that begin with `//`, without these two characters, by the offset at which they begin.
    pub(crate) line_comments: Vec<(usize, &'a str)>,
}

const SYMBOLS: [&str; 21] = [
    "<<=", ">>=", "->", "++", "--", "&&", "||", "==", "!=", "<=", ">=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=",
    "<<", ">>",
];
const KEYWORDS: [&str; 16] = [
    "return",
    "if",
    "else",
    "while",
    "for",
    "loop",
    "switch",
    "case",
    "default",
    "let",
    "var",
    "const",
    "break",
    "continue",
    "continuing",
    "discard",
];

impl<'a> Shader<'a> {
    pub(crate) fn parse(source: &'a str) -> Self {
        let mut shader = Self { source, tokens: Vec::new(), line_comments: Vec::new() };
        let mut at = 0;
        let mut template_depth = 0;
        while let Some(first) = source[at..].chars().next() {
            let rest = &source[at..];
            let length = if rest.starts_with("//") {
                let length = rest.find('\n').unwrap_or(rest.len());
                shader.line_comments.push((at, &rest[2..length]));
                length
            } else if rest.starts_with("/*") {
                block_comment_length(rest)
            } else if first.is_whitespace() {
                first.len_utf8()
            } else {
                let opens_template = first == '<'
                    && shader.tokens.last().is_some_and(|token| takes_template(&source[token.span.clone()]));
                let in_template = template_depth > 0 || opens_template;
                let (kind, length) = token_at(rest, in_template);
                template_depth += i32::from(opens_template);
                if in_template && first == '>' {
                    template_depth -= 1;
                }
                shader.tokens.push(Token { kind, span: at..at + length, in_body: false, in_template });
                length
            };
            at += length;
        }
        shader.mark_bodies();
        shader
    }

    pub(crate) fn text(&self, token: usize) -> &'a str {
        self.tokens.get(token).map_or("", |token| &self.source[token.span.clone()])
    }

    /// Whether the operator at `token` has a left operand.
    pub(crate) fn is_binary(&self, token: usize) -> bool {
        let Some(before) = token.checked_sub(1) else {
            return false;
        };
        match self.tokens[before].kind {
            Kind::Number => true,
            Kind::Word => !KEYWORDS.contains(&self.text(before)),
            Kind::Symbol => [")", "]"].contains(&self.text(before)),
        }
    }

    pub(crate) fn is_keyword(&self, token: usize) -> bool {
        KEYWORDS.contains(&self.text(token))
    }

    /// The token after the operand that begins at `token`, where only operators that bind tighter than `precedence`
    /// belong to it.
    pub(crate) fn operand_end(&self, token: usize, precedence: u8) -> usize {
        let mut at = token;
        while ["-", "!", "~", "&", "*"].contains(&self.text(at)) {
            at += 1;
        }
        at = if self.text(at) == "(" { self.after_closing(at) } else { at + 1 };
        while self.tokens.get(at).is_some_and(|token| token.in_template) {
            at += 1;
        }
        loop {
            match self.text(at) {
                "." => at += 2,
                "(" | "[" => at = self.after_closing(at),
                operator if precedence_of(operator) > precedence => {
                    return self.operand_end(at + 1, precedence);
                }
                _ => return at,
            }
        }
    }

    /// The token after the bracket that closes the one at `token`.
    pub(crate) fn after_closing(&self, token: usize) -> usize {
        let mut depth = 0;
        for at in token..self.tokens.len() {
            match self.text(at) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return at + 1;
            }
        }
        self.tokens.len()
    }

    /// The source from one token up to, not including, another.
    pub(crate) fn span(&self, tokens: Range<usize>) -> Range<usize> {
        self.tokens[tokens.start].span.start..self.tokens[tokens.end - 1].span.end
    }

    fn mark_bodies(&mut self) {
        let mut at = 0;
        while at < self.tokens.len() {
            if self.text(at) != "fn" {
                at += 1;
                continue;
            }
            while at < self.tokens.len() && self.text(at) != "{" {
                at += 1;
            }
            let end = self.after_closing(at);
            for token in self.tokens.iter_mut().take(end).skip(at) {
                token.in_body = !token.in_template;
            }
            at = end;
        }
    }
}

/// How tightly a binary operator binds; 0 for anything else.
pub(crate) fn precedence_of(operator: &str) -> u8 {
    match operator {
        "*" | "/" | "%" => 7,
        "+" | "-" => 6,
        "<<" | ">>" => 5,
        "<" | "<=" | ">" | ">=" | "==" | "!=" => 4,
        "&" | "|" | "^" => 3,
        "&&" => 2,
        "||" => 1,
        _ => 0,
    }
}

/// Whether `<` after this word opens a template list rather than compares.
fn takes_template(word: &str) -> bool {
    let dimensioned =
        |prefix| word.strip_prefix(prefix).is_some_and(|rest: &str| rest.starts_with(|c: char| c.is_ascii_digit()));
    ["var", "array", "atomic", "ptr", "bitcast"].contains(&word) || dimensioned("vec") || dimensioned("mat")
}

fn token_at(rest: &str, in_template: bool) -> (Kind, usize) {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    if rest.starts_with(|c: char| c.is_ascii_digit()) {
        let hexadecimal = rest.starts_with("0x");
        let mut before = ' ';
        let length = rest.find(|c: char| {
            let exponent_sign = !hexadecimal && "eE".contains(before) && "+-".contains(c);
            before = c;
            !(is_word(c) || c == '.' || exponent_sign)
        });
        return (Kind::Number, length.unwrap_or(rest.len()));
    }
    if rest.starts_with(is_word) {
        return (Kind::Word, rest.find(|c| !is_word(c)).unwrap_or(rest.len()));
    }
    // The last two characters of `array<vec4<f32>>` close two lists.
    let symbol = SYMBOLS.iter().find(|symbol| !in_template && rest.starts_with(**symbol));
    (Kind::Symbol, symbol.map_or_else(|| rest.chars().next().map_or(1, char::len_utf8), |symbol| symbol.len()))
}

/// Block comments nest in WGSL.
fn block_comment_length(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> Vec<&str> {
        let shader = Shader::parse(source);
        (0..shader.tokens.len()).map(|token| shader.text(token)).collect()
    }

    fn body(source: &str) -> String {
        let shader = Shader::parse(source);
        let in_body = (0..shader.tokens.len()).filter(|&token| shader.tokens[token].in_body);
        in_body.map(|token| shader.text(token)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_are_no_tokens() {
        assert_eq!(words("a // b\nc /* d /* e */ f */ g"), ["a", "c", "g"]);
        assert_eq!(Shader::parse("a // b\n").line_comments, [(2, " b")]);
    }

    #[test]
    fn numbers_and_operators_are_whole_tokens() {
        assert_eq!(words("1e-6-x"), ["1e-6", "-", "x"]);
        assert_eq!(words("0xe-1u"), ["0xe", "-", "1u"]);
        assert_eq!(words("a<<=b>>c!=-1.5"), ["a", "<<=", "b", ">>", "c", "!=", "-", "1.5"]);
    }

    #[test]
    fn template_lists_are_told_from_comparisons() {
        assert_eq!(words("array<vec4<f32>>=x"), ["array", "<", "vec4", "<", "f32", ">", ">", "=", "x"]);
        assert_eq!(body("fn f() { bitcast<vec4<f32>>(a) < b }"), "{ bitcast ( a ) < b }");
    }

    #[test]
    fn only_bodies_of_functions_are_bodies() {
        assert_eq!(
            body(
                "const A = 1u; struct S { a: f32 } @compute @workgroup_size(64) fn f(a: u32) -> S { b(); } var c: u32;"
            ),
            "{ b ( ) ; }"
        );
    }

    #[test]
    fn operands_end_where_a_looser_operator_begins() {
        for (source, precedence, operand) in [
            ("a * b + c", 6, "a * b"),
            ("a * b + c", 7, "a"),
            ("f(a + b)[c].x * d", 7, "f(a + b)[c].x"),
            ("-vec4<f32>(1.0) + c", 6, "-vec4<f32>(1.0)"),
            ("(a + b) * c; d", 6, "(a + b) * c"),
            ("a < b && c", 2, "a < b"),
        ] {
            let shader = Shader::parse(source);
            let end = shader.operand_end(0, precedence);
            assert_eq!(&source[shader.span(0..end)], operand);
        }
    }
}
