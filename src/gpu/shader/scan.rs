//! Finds comments and declarations in WGSL.

/// The text with spaces in place of comments. Block comments nest.
pub(super) fn without_comments(text: &str) -> String {
    let (mut code, mut depth, mut in_line) = (String::new(), 0, false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let delimiter = letters.peek().map(|&next| [letter, next]);
        in_line = !matches!(letter, '\n' | '\r') && (in_line || (depth == 0 && delimiter == Some(['/', '/'])));
        match delimiter {
            Some(['/', '*']) if !in_line => depth += 1,
            Some(['*', '/']) if depth > 0 => depth -= 1,
            _ if letter == '\n' || (depth == 0 && !in_line) => {
                code.push(letter);
                continue;
            }
            _ => {
                code.extend(std::iter::repeat_n(' ', letter.len_utf8()));
                continue;
            }
        }
        letters.next();
        code.push_str("  ");
    }
    code
}

/// The declarations of a module: keyword, line, name.
pub(super) fn declarations(body: &str) -> Vec<(&'static str, usize, String)> {
    const KEYWORDS: [&str; 6] = ["fn", "struct", "const", "override", "var", "alias"];
    let (mut found, mut depth, mut keyword) = (Vec::new(), 0, None);
    // Inside `<storage, read_write>` between `var` and its name.
    let mut in_template = false;
    for (line, code) in (1..).zip(without_comments(body).lines()) {
        for token in tokens(code) {
            match token {
                "{" | "(" => depth += 1,
                "}" | ")" => depth -= 1,
                _ if depth > 0 => {}
                "<" if keyword == Some("var") => in_template = true,
                ">" if in_template => in_template = false,
                _ if in_template => {}
                token => match keyword.take() {
                    Some(keyword) => found.push((keyword, line, token.to_owned())),
                    None => keyword = KEYWORDS.into_iter().find(|known| *known == token),
                },
            }
        }
    }
    found
}

/// Identifiers, numbers, and single characters of anything else.
fn tokens(code: &str) -> impl Iterator<Item = &str> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let words = code.split_inclusive(move |c: char| !is_word(c));
    words.flat_map(move |word| {
        let end = word.trim_end_matches(|c: char| !is_word(c)).len();
        [&word[..end], &word[end..]].into_iter().filter(|token| !token.trim().is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_found_however_they_are_formatted() {
        let source = "@group(0) @binding(1) var<storage, read_write> a: array<u32>;\nconst B = 1 < 2;\n  struct C {\n    \
                      fn_like: u32,\n  }\n@compute @workgroup_size(1) fn\n  d(x: vec4<f32>) -> f32 { let e = 1; return 1.0; }\n\
                      override f: bool;\nalias G = vec4<f32>; // const comment: u32";
        let names: Vec<_> = declarations(source).into_iter().map(|(.., name)| name).collect();
        assert_eq!(names, ["a", "B", "C", "d", "f", "G"]);
    }

    #[test]
    fn comments_hide_what_they_hold() {
        let source = "/* fn a() {\n/* inner */ */ const b = 1; // /* fn c()\nfn d() {}\n/// é */ fn e()\nfn f() {}";
        let names: Vec<_> = declarations(source).into_iter().map(|(_, line, name)| (line, name)).collect();
        assert_eq!(names, [(2, "b".to_owned()), (3, "d".to_owned()), (5, "f".to_owned())]);
        assert_eq!(without_comments(source).len(), source.len());
    }
}
