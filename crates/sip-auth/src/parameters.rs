//! The grammar that challenges and credentials share: a scheme, then parameters (RFC 3261 §25.1).

use std::borrow::Cow;
use std::fmt::{self, Write as _};

/// One challenge or one set of credentials: a scheme and its parameters, unquoted, in order.
#[derive(Debug)]
pub(crate) struct Parameters<'a> {
    pub(crate) scheme: &'a str,
    list: Vec<(&'a str, Cow<'a, str>)>,
}

/// Tells what stood where the grammar wanted something else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem} at offset {offset}")]
pub struct SyntaxError {
    pub(crate) problem: &'static str,
    pub(crate) offset: usize,
}

impl<'a> Parameters<'a> {
    /// Reads all challenges of one header value.
    ///
    /// RFC 3261 §20.44 gives each challenge a line of its own; senders that join several with commas are understood too.
    pub(crate) fn parse_list(text: &'a str) -> Result<Vec<Parameters<'a>>, SyntaxError> {
        let list = Self::read(text, Vec::new())?;
        match list.is_empty() {
            true => Err(SyntaxError {
                problem: "no scheme",
                offset: 0,
            }),
            false => Ok(list),
        }
    }

    /// Reads the value of `Authentication-Info`, which has parameters but no scheme (RFC 3261 §20.6).
    pub(crate) fn parse_information(text: &'a str) -> Result<Parameters<'a>, SyntaxError> {
        let start = Parameters {
            scheme: "",
            list: Vec::new(),
        };
        let mut list = Self::read(text, vec![start])?;
        Ok(list.swap_remove(0))
    }

    fn read(
        text: &'a str,
        mut list: Vec<Parameters<'a>>,
    ) -> Result<Vec<Parameters<'a>>, SyntaxError> {
        let mut reader = Reader { text, offset: 0 };
        loop {
            reader.skip_separators();
            if reader.rest().is_empty() {
                break;
            }
            let word = reader.token()?;
            reader.skip_space();
            if !reader.accept('=') {
                list.push(Parameters {
                    scheme: word,
                    list: Vec::new(),
                });
                continue;
            }
            reader.skip_space();
            let value = reader.value()?;
            reader.skip_space();
            if !matches!(reader.rest().chars().next(), None | Some(',')) {
                return Err(reader.error("no comma after a parameter"));
            }
            match list.last_mut() {
                Some(parameters) => parameters.list.push((word, value)),
                None => return Err(reader.error("a parameter before any scheme")),
            }
        }
        Ok(list)
    }

    pub(crate) fn is_digest(&self) -> bool {
        self.scheme.eq_ignore_ascii_case("Digest")
    }

    /// Gives a parameter by name. A parameter may occur once only (RFC 7235 §2.1).
    pub(crate) fn unique(&self, name: &'static str) -> Result<Option<&str>, Duplicate> {
        let mut values = self
            .list
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_ref());
        let first = values.next();
        match values.next() {
            Some(_) => Err(Duplicate(name)),
            None => Ok(first),
        }
    }
}

/// Names a parameter that occurs twice.
#[derive(Debug)]
pub(crate) struct Duplicate(pub(crate) &'static str);

/// Prints parameters after a scheme, quoting what RFC 7616 §3.3 and §3.4 want quoted.
pub(crate) struct Printer<'f, 'b> {
    f: &'f mut fmt::Formatter<'b>,
    separator: &'static str,
}

impl<'f, 'b> Printer<'f, 'b> {
    pub(crate) fn digest(f: &'f mut fmt::Formatter<'b>) -> Result<Self, fmt::Error> {
        f.write_str("Digest ")?;
        Ok(Printer { f, separator: "" })
    }

    pub(crate) fn quoted(&mut self, name: &str, value: &str) -> fmt::Result {
        write!(self.f, "{}{name}=\"", self.separator)?;
        self.separator = ", ";
        for character in value.chars() {
            match character {
                '"' | '\\' => {
                    self.f.write_char('\\')?;
                    self.f.write_char(character)?;
                }
                // A quoted-pair must not hold CR, LF (RFC 3261 §25.1); nothing that arrives here has them.
                '\r' | '\n' | '\0' => {}
                _ => self.f.write_char(character)?,
            }
        }
        self.f.write_char('"')
    }

    pub(crate) fn plain(&mut self, name: &str, value: &str) -> fmt::Result {
        write!(self.f, "{}{name}={value}", self.separator)?;
        self.separator = ", ";
        Ok(())
    }
}

/// Tells whether `text` can stand inside a quoted-string.
pub(crate) fn is_quotable(text: &str) -> bool {
    !text
        .bytes()
        .any(|byte| matches!(byte, b'\r' | b'\n' | b'\0'))
}

struct Reader<'a> {
    text: &'a str,
    offset: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.offset..).unwrap_or_default()
    }

    fn error(&self, problem: &'static str) -> SyntaxError {
        SyntaxError {
            problem,
            offset: self.offset,
        }
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.offset += end;
        rest.get(..end).unwrap_or_default()
    }

    fn skip_space(&mut self) {
        self.take_while(is_space);
    }

    fn skip_separators(&mut self) {
        self.take_while(|c| is_space(c) || c == ',');
    }

    fn accept(&mut self, wanted: char) -> bool {
        let found = self.rest().starts_with(wanted);
        if found {
            self.offset += wanted.len_utf8();
        }
        found
    }

    fn token(&mut self) -> Result<&'a str, SyntaxError> {
        match self.take_while(is_token) {
            "" => Err(self.error("no token")),
            token => Ok(token),
        }
    }

    /// Reads a quoted-string, or anything up to a comma or a space: unquoted URIs and empty values do occur.
    fn value(&mut self) -> Result<Cow<'a, str>, SyntaxError> {
        if !self.accept('"') {
            return Ok(Cow::Borrowed(
                self.take_while(|c| !is_space(c) && c != ',' && c != '"'),
            ));
        }
        let plain = self.take_while(|c| c != '"' && c != '\\');
        if self.accept('"') {
            return Ok(Cow::Borrowed(plain));
        }
        let mut value = plain.to_owned();
        loop {
            if self.accept('"') {
                return Ok(Cow::Owned(value));
            }
            if self.accept('\\') {
                let Some(escaped) = self.rest().chars().next() else {
                    return Err(self.error("unfinished quoted-string"));
                };
                self.offset += escaped.len_utf8();
                value.push(escaped);
                continue;
            }
            match self.take_while(|c| c != '"' && c != '\\') {
                "" => return Err(self.error("unfinished quoted-string")),
                more => value.push_str(more),
            }
        }
    }
}

fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

fn is_token(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-.!%*_+`'~".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Parameters<'_> {
        let mut list = Parameters::parse_list(text).expect(text);
        assert_eq!(list.len(), 1, "{text}");
        list.remove(0)
    }

    #[test]
    fn quoted_strings_are_unescaped() {
        let parameters = one(r#"Digest realm="a \"b\" \\ c", x=1"#);
        assert_eq!(
            parameters.unique("realm").expect("once"),
            Some(r#"a "b" \ c"#)
        );
        assert_eq!(parameters.unique("X").expect("once"), Some("1"));
    }

    #[test]
    fn commas_and_schemes_inside_quotes_are_text() {
        let parameters = one(r#"Digest qop="auth,auth-int",realm=", Basic x=""#);
        assert_eq!(
            parameters.unique("qop").expect("once"),
            Some("auth,auth-int")
        );
        assert_eq!(
            parameters.unique("realm").expect("once"),
            Some(", Basic x=")
        );
    }

    #[test]
    fn several_challenges_in_one_value_come_apart() {
        let list = Parameters::parse_list(
            "Digest realm=\"a\", nonce=\"1\", Basic realm=\"b\",\r\n Digest realm=\"c\"",
        )
        .expect("three challenges");
        let schemes: Vec<&str> = list.iter().map(|p| p.scheme).collect();
        assert_eq!(schemes, ["Digest", "Basic", "Digest"]);
    }

    #[test]
    fn a_parameter_that_occurs_twice_is_refused() {
        assert!(one("Digest realm=a, realm=b").unique("realm").is_err());
    }

    #[test]
    fn garbage_is_an_error_with_its_offset() {
        for text in [
            "",
            " , ,",
            "=",
            "Digest =x",
            "Digest realm=\"a",
            "Digest realm=\"a\\",
            "Digest realm=\"a\"x",
            "realm=\"a\"",
            "Digest \"realm\"=a",
        ] {
            let error = Parameters::parse_list(text).expect_err(text);
            assert!(error.offset <= text.len(), "{text}: {error}");
        }
    }
}
