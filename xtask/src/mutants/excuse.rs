//! Breakages that change nothing can be excused in the shader itself, with a reason, in a comment behind the line or
//! above it:
//!
//! ```wgsl
//! if max_bits >= INFINITE { // equivalent(boundary): the sum of infinities is infinite anyway
//! // equivalent(<=, + tail): why the line below stays the same when `<` becomes `<=` or the term goes
//! ```
//!
//! The scope names operators, or what is replaced, or what replaces it; without one, every breakage of the line is
//! excused.

use super::operators::Breakage;
use super::wgsl::Shader;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Excuse {
    /// The line it speaks of, counted from 1.
    pub(crate) line: usize,
    scope: Vec<String>,
    pub(crate) reason: String,
}

impl Excuse {
    pub(crate) fn covers(&self, source: &str, line: usize, breakage: &Breakage) -> bool {
        let (original, replacement) = (&source[breakage.span.clone()], &breakage.replacement);
        let names = [breakage.operator.name(), original.trim(), replacement.trim()];
        self.line == line && (self.scope.is_empty() || self.scope.iter().any(|name| names.contains(&name.as_str())))
    }
}

/// The line of an offset, counted from 1.
pub(crate) fn line_of(source: &str, offset: usize) -> usize {
    source[..offset].matches('\n').count() + 1
}

/// Every excuse in a shader; an error begins with the line of one that gives no reason.
pub(crate) fn excuses(shader: &Shader) -> Result<Vec<Excuse>, String> {
    let comments =
        shader.line_comments.iter().filter_map(|(at, text)| Some((*at, text.trim().strip_prefix("equivalent")?)));
    let parsed = comments.map(|(at, text)| {
        let own_line = line_of(shader.source, at);
        parse(text)
            .map(|(scope, reason)| Excuse { line: line_it_speaks_of(shader, at, own_line), scope, reason })
            .ok_or_else(|| format!("{own_line}: write `// equivalent: reason` or `// equivalent(scope): reason`"))
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
    fn a_comment_on_its_own_line_speaks_of_the_next_line_with_code() {
        assert_eq!(
            excused("fn f() {\n // equivalent(sign): why\n\n // more\n let a = b + c;\n let d = e + f;\n}"),
            ["sign: -"]
        );
    }

    #[test]
    fn an_excuse_without_a_reason_is_refused() {
        for comment in ["// equivalent", "// equivalent:", "// equivalent(<=)", "// equivalent(<=): "] {
            let source = format!("fn f() {{\n a = b; {comment}\n}}");
            let error = excuses(&Shader::parse(&source)).expect_err(comment);
            assert!(error.starts_with("2: "), "{error}");
        }
    }
}
