//! Rust source as paths: comments, literals and test modules taken away, `use` groups expanded. Enough of the
//! language to see what a file names, and no more.

/// A path such as `std::net::IpAddr` and the line on which it begins (from 1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedPath {
    /// Its segments, in order; `*` for a glob.
    pub(crate) segments: Vec<String>,
    /// Where it stands.
    pub(crate) line: usize,
}

/// Every path that `source` names outside of comments, literals and `#[cfg(test)]` modules.
pub(crate) fn paths(source: &str) -> Vec<NamedPath> {
    let tokens = without_test_modules(tokens(source));
    let mut reader = Reader { tokens: &tokens, at: 0, found: Vec::new() };
    while reader.at < tokens.len() {
        reader.path(&[]);
    }
    reader.found
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Ident(String),
    /// `::`
    Sep,
    Other(char),
}

type Placed = (Token, usize);

fn tokens(source: &str) -> Vec<Placed> {
    let chars: Vec<char> = source.chars().collect();
    let (mut found, mut at, mut line) = (Vec::new(), 0, 1);
    while at < chars.len() {
        let next = match skipped(&chars, at) {
            Some(next) => next,
            None => {
                let (token, next) = token(&chars, at);
                found.extend(token.map(|token| (token, line)));
                next
            }
        };
        line += chars[at..next].iter().filter(|&&char| char == '\n').count();
        at = next;
    }
    found
}

fn token(chars: &[char], at: usize) -> (Option<Token>, usize) {
    let is_ident = |char: &char| char.is_alphanumeric() || *char == '_';
    if is_ident(&chars[at]) {
        let end =
            chars[at..].iter().position(|char| !is_ident(char)).map_or(chars.len(), |length| at + length);
        return (Some(Token::Ident(chars[at..end].iter().collect())), end);
    }
    if chars[at..].starts_with(&[':', ':']) {
        return (Some(Token::Sep), at + 2);
    }
    ((!chars[at].is_whitespace()).then_some(Token::Other(chars[at])), at + 1)
}

/// The end of the comment or literal that begins at `at`, if one does.
fn skipped(chars: &[char], at: usize) -> Option<usize> {
    let rest = &chars[at..];
    if rest.starts_with(&['/', '/']) {
        return Some(find(chars, at, |rest| rest.starts_with(&['\n'])));
    }
    if rest.starts_with(&['/', '*']) {
        return Some(end_of_block_comment(chars, at));
    }
    match rest {
        ['"', ..] => Some(end_of_quoted(chars, at, '"')),
        ['\'', '\\', ..] | ['\'', _, '\'', ..] => Some(end_of_quoted(chars, at, '\'')),
        ['r', '"' | '#', ..] if at == 0 || !chars[at - 1].is_alphanumeric() || chars[at - 1] == 'b' => {
            end_of_raw_string(chars, at)
        }
        _ => None,
    }
}

fn find(chars: &[char], from: usize, mut at_end: impl FnMut(&[char]) -> bool) -> usize {
    (from..chars.len()).find(|&at| at_end(&chars[at..])).unwrap_or(chars.len())
}

fn end_of_block_comment(chars: &[char], start: usize) -> usize {
    let (mut depth, mut at) = (0_usize, start);
    while at < chars.len() {
        let step = match chars[at..] {
            ['/', '*', ..] => {
                depth += 1;
                2
            }
            ['*', '/', ..] => {
                depth -= 1;
                2
            }
            _ => 1,
        };
        at += step;
        if depth == 0 {
            break;
        }
    }
    at.min(chars.len())
}

fn end_of_quoted(chars: &[char], start: usize, quote: char) -> usize {
    let mut escaped = false;
    let closing = chars[start + 1..].iter().position(|&char| {
        let closes = char == quote && !escaped;
        escaped = char == '\\' && !escaped;
        closes
    });
    closing.map_or(chars.len(), |length| start + length + 2)
}

/// `r"…"` and `r#"…"#`; None for a raw identifier such as `r#type`.
fn end_of_raw_string(chars: &[char], start: usize) -> Option<usize> {
    let hashes = chars[start + 1..].iter().take_while(|&&char| char == '#').count();
    let open = start + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let closing: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let end = find(chars, open + 1, |rest| rest.starts_with(&closing));
    Some((end + closing.len()).min(chars.len()))
}

/// `#[cfg(test)] mod name { … }`: tests may use what the product may not.
fn without_test_modules(tokens: Vec<Placed>) -> Vec<Placed> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match end_of_test_module(&tokens, at) {
            Some(end) => at = end,
            None => {
                kept.push(tokens[at].clone());
                at += 1;
            }
        }
    }
    kept
}

fn end_of_test_module(tokens: &[Placed], at: usize) -> Option<usize> {
    const ATTRIBUTE: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let shown = |index: usize| {
        tokens.get(index).map(|(token, _)| match token {
            Token::Ident(name) => name.clone(),
            Token::Sep => "::".to_owned(),
            Token::Other(char) => char.to_string(),
        })
    };
    let is = |index: usize, text: &str| shown(index).as_deref() == Some(text);
    if !ATTRIBUTE.iter().enumerate().all(|(offset, text)| is(at + offset, text)) {
        return None;
    }
    let module = at + ATTRIBUTE.len();
    if !(is(module, "mod") && is(module + 2, "{")) {
        return None;
    }
    let mut depth = 0_usize;
    let end = (module + 2..tokens.len()).find(|&index| {
        depth = if is(index, "{") {
            depth + 1
        } else if is(index, "}") {
            depth - 1
        } else {
            depth
        };
        depth == 0
    });
    Some(end.map_or(tokens.len(), |end| end + 1))
}

struct Reader<'a> {
    tokens: &'a [Placed],
    at: usize,
    found: Vec<NamedPath>,
}

impl Reader<'_> {
    /// Reads one path below `prefix`, its groups included; always moves on.
    fn path(&mut self, prefix: &[String]) {
        let line = self.tokens[self.at].1;
        let mut segments = prefix.to_vec();
        // A leading `::` changes nothing about what is named.
        if self.peek() == Some(&Token::Sep) {
            self.at += 1;
        }
        loop {
            match self.peek().cloned() {
                Some(Token::Ident(name)) => segments.push(name),
                Some(Token::Other('*')) if segments.len() > prefix.len() || !prefix.is_empty() => {
                    segments.push("*".into())
                }
                Some(Token::Other('{')) if !segments.is_empty() => return self.group(&segments),
                Some(Token::Sep | Token::Other(_)) | None => {
                    self.at += usize::from(segments.len() == prefix.len());
                    break;
                }
            }
            self.at += 1;
            if self.peek() != Some(&Token::Sep) {
                break;
            }
            self.at += 1;
        }
        if segments.len() > prefix.len() {
            self.found.push(NamedPath { segments, line });
        }
    }

    /// `{a, b::{c, d}}` after a path.
    fn group(&mut self, prefix: &[String]) {
        self.at += 1;
        while let Some(token) = self.peek() {
            match token {
                Token::Other('}') => {
                    self.at += 1;
                    return;
                }
                Token::Other(',') => self.at += 1,
                Token::Ident(_) | Token::Sep | Token::Other(_) => self.path(prefix),
            }
        }
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(token, _)| token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(source: &str) -> Vec<String> {
        paths(source).iter().map(|path| path.segments.join("::")).filter(|path| path.contains("::")).collect()
    }

    #[test]
    fn groups_are_expanded() {
        assert_eq!(
            named("use std::{fs, net::{IpAddr, TcpStream}, time::*};"),
            ["std::fs", "std::net::IpAddr", "std::net::TcpStream", "std::time::*"]
        );
    }

    #[test]
    fn a_path_in_an_expression_is_named_and_a_block_after_it_is_not_a_group() {
        assert_eq!(named("if a::B { ::std::env::var(x) }"), ["a::B", "std::env::var"]);
        assert_eq!(named("match x { A::B { y } => c::d(y) }"), ["A::B", "c::d"]);
    }

    #[test]
    fn comments_and_literals_name_nothing() {
        let source = r##"
            // std::fs
            /* std::fs /* nested */ std::fs */
            let a = "std::fs \" std::fs"; let b = r#"std::fs " "#; let c = '"'; let d = '\''; let e = b"std::fs";
            fn f<'a>(x: &'a str) -> real::Name {}
        "##;
        assert_eq!(named(source), ["real::Name"]);
    }

    #[test]
    fn test_modules_name_nothing_and_what_follows_them_does() {
        let source = "#[cfg(test)] mod tests { fn f() { std::fs::read(x); } } #[cfg(test)] fn g() { a::b() }";
        assert_eq!(named(source), ["a::b"]);
    }

    #[test]
    fn lines_are_counted_over_comments_and_literals() {
        let source = "/* one\n two */\nlet a = \"x\ny\";\nb::c();";
        let found: Vec<_> = paths(source).into_iter().filter(|path| path.segments.len() > 1).collect();
        assert_eq!(found[0].line, 5);
    }

    #[test]
    fn any_text_is_read_to_its_end() {
        for text in ["r#", "'", "\"", "/*", "::", "a::", "a::{", "a::{b::{", "#[cfg(test)] mod x {", "}", "*"]
        {
            paths(text);
        }
    }
}
