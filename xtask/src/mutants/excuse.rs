//! Excuses for breakages that no test can notice. A shader states them in comments behind the line or above it:
//!
//! ```wgsl
//! if max_bits >= INFINITE { // equivalent(boundary): the sum of infinities is infinite anyway
//! // equivalent(<=, + tail): reason why `<` may become `<=`, and why the term may go
//! workgroupBarrier(); // undetected: lavapipe runs the lanes of a workgroup in order
//! ```
//!
//! `equivalent`: the results stay the same on every device. `undetected`: a fault that the driver or the tests hide, such
//! as a race; reports say `undetected here`. The scope lists operators, replaced texts, replacements, or parts of the broken line such as `lane <= count`.
//! Without a scope, the excuse covers every breakage of the line.

use std::fmt;

use super::operators::Breakage;
use super::wgsl::Shader;

/// Why no test notices a breakage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// The results stay the same on every device.
    Equivalent,
    /// A fault that this machine's driver or the tests hide.
    Undetected,
}

impl Verdict {
    pub(crate) const ALL: [Self; 2] = [Self::Equivalent, Self::Undetected];

    /// First word of the comment.
    fn keyword(self) -> &'static str {
        match self {
            Self::Equivalent => "equivalent",
            Self::Undetected => "undetected",
        }
    }
}

/// Name in reports.
impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Equivalent => "equivalent",
            Self::Undetected => "undetected here",
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Excuse {
    /// The line it speaks of, counted from 1.
    pub(crate) line: usize,
    pub(crate) verdict: Verdict,
    scope: Vec<String>,
    pub(crate) reason: String,
}

impl fmt::Display for Excuse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.verdict, self.reason)
    }
}

impl Excuse {
    pub(crate) fn covers(&self, source: &str, line: usize, breakage: &Breakage) -> bool {
        let (original, replacement) = (&source[breakage.span.clone()], &breakage.replacement);
        let names = [breakage.operator.name(), original.trim(), replacement.trim()];
        let [before, after] = breakage.surroundings(source);
        let [whole, broken] = [original, replacement.as_str()].map(|middle| [before, middle, after].concat());
        // A part of the line has a blank: a single token is one of the names.
        let is_broken_part = |name: &str| name.contains(' ') && broken.contains(name) && !whole.contains(name);
        let is_in_scope = |name: &String| names.contains(&name.as_str()) || is_broken_part(name);
        self.line == line && (self.scope.is_empty() || self.scope.iter().any(is_in_scope))
    }
}

/// The line of an offset, counted from 1.
pub(crate) fn line_of(source: &str, offset: usize) -> usize {
    source[..offset].matches('\n').count() + 1
}

/// Every excuse in a shader; an error begins with the line of one that gives no reason.
pub(crate) fn excuses(shader: &Shader) -> Result<Vec<Excuse>, String> {
    let verdict = |text: &str| Verdict::ALL.into_iter().find(|verdict| text.trim().starts_with(verdict.keyword()));
    let comments = shader.line_comments.iter().filter_map(|&(at, text)| Some((at, text.trim(), verdict(text)?)));
    let parsed = comments.map(|(at, text, verdict)| {
        let (own_line, keyword) = (line_of(shader.source, at), verdict.keyword());
        parse(&text[keyword.len()..])
            .map(|(scope, reason)| Excuse { line: line_it_speaks_of(shader, at, own_line), verdict, scope, reason })
            .ok_or_else(|| format!("{own_line}: write `// {keyword}: reason` or `// {keyword}(scope): reason`"))
    });
    parsed.collect()
}

fn parse(text: &str) -> Option<(Vec<String>, String)> {
    // A replacement in the scope may hold parentheses and colons: the scope ends at the first `):`.
    let (scope, reason) = match text.strip_prefix('(') {
        Some(scoped) => scoped.split_once("):")?,
        None => ("", text.strip_prefix(':')?),
    };
    let scope = scope.split(',').map(|name| name.trim().to_string()).filter(|name| !name.is_empty());
    let reason = reason.trim().to_string();
    (!reason.is_empty()).then(|| (scope.collect(), reason))
}

/// Its own line, or where that holds nothing else, the next one with code.
fn line_it_speaks_of(shader: &Shader, comment: usize, own_line: usize) -> usize {
    let lines = shader.tokens.iter().map(|token| line_of(shader.source, token.span.start));
    if lines.clone().any(|line| line == own_line) {
        return own_line;
    }
    let next = shader.tokens.iter().find(|token| token.span.start > comment);
    next.map_or(own_line, |token| line_of(shader.source, token.span.start))
}

#[cfg(test)]
mod tests {
    use super::super::operators::breakages;
    use super::*;

    fn excused(source: &str) -> Vec<String> {
        let shader = Shader::parse(source);
        let excuses = excuses(&shader).expect("well-formed excuses");
        let covered = breakages(&shader).into_iter().filter(|breakage| {
            let line = line_of(source, breakage.span.start);
            excuses.iter().any(|excuse| excuse.covers(source, line, breakage))
        });
        covered.map(|breakage| format!("{}: {}", breakage.operator.name(), breakage.replacement)).collect()
    }

    #[test]
    fn an_excuse_without_scope_covers_its_whole_line_and_no_other() {
        let source = "fn f() {\n  if a < b { // equivalent: both arms agree\n c = d; }\n}";
        assert_eq!(excused(source), ["compare: >=", "boundary: <="]);
    }

    #[test]
    fn a_scope_is_an_operator_or_a_text_before_or_after() {
        assert_eq!(excused("fn f() {\n  if a < b { // equivalent(<=): c is 0 at b\n } }"), ["boundary: <="]);
        assert_eq!(excused("fn f() {\n  a = -b; // equivalent(delete, sign): why\n }"), ["delete: ", "sign: "]);
        assert_eq!(excused("fn f() {\n  a = b * c + d; // equivalent(* c): c is 1\n }"), ["drop: "]);
    }

    #[test]
    fn a_scope_is_a_part_of_the_broken_line() {
        let source = "fn f() {\n  // undetected(a <= b): past the end\n  c = a < b & d < e & a < f;\n }";
        assert_eq!(excused(source), ["boundary: <="]);
        let shader = Shader::parse(source);
        let excuse = &excuses(&shader).expect("well-formed excuses")[0];
        let covered: Vec<_> = breakages(&shader).into_iter().filter(|it| excuse.covers(source, 3, it)).collect();
        assert_eq!(covered[0].surroundings(source), ["  c = a ", " b & d < e & a < f;"]);
    }

    #[test]
    fn a_comment_on_its_own_line_speaks_of_the_next_line_with_code() {
        assert_eq!(
            excused("fn f() {\n // equivalent(sign): why\n\n // more\n let a = b + c;\n let d = e + f;\n}"),
            ["sign: -"]
        );
    }

    #[test]
    fn a_line_has_excuses_of_both_verdicts() {
        let source = "fn f() {\n // undetected(delete): a race\n // equivalent(sign): b is 0\n a = -b;\n}";
        let excuses = excuses(&Shader::parse(source)).expect("well-formed excuses");
        let told: Vec<_> = excuses.iter().map(|excuse| (excuse.line, excuse.to_string())).collect();
        assert_eq!(told, [(4, "undetected here: a race".to_string()), (4, "equivalent: b is 0".to_string())]);
        assert_eq!(excused(source), ["delete: ", "sign: "]);
    }

    #[test]
    fn an_excuse_without_a_reason_is_refused() {
        for verdict in ["equivalent", "undetected"] {
            for rest in ["", ":", "(<=)", "(<=): "] {
                let source = format!("fn f() {{\n a = b; // {verdict}{rest}\n}}");
                let error = excuses(&Shader::parse(&source)).expect_err(rest);
                assert!(error.starts_with(&format!("2: write `// {verdict}: reason`")), "{error}");
            }
        }
    }
}
