//! The text to learn, as tokens: a token is a character.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;

/// "Alice's Adventures in Wonderland" by Lewis Carroll, 1865: in the public domain.
const ALICE: &str = include_str!("../text/alice.txt");

/// Reasons to refuse a text.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TextError {
    #[error("{path}: {error}; give --data a UTF-8 text")]
    Unreadable { path: String, error: std::io::Error },
    #[error(
        "the text has {len} characters; at least {needed} are needed for a context of {context}: give a longer text, or a smaller --context"
    )]
    TooShort { len: usize, needed: usize, context: usize },
    #[error("the character {character:?} does not occur in the text; it has {known}")]
    UnknownCharacter { character: char, known: String },
}

/// The characters of a text, in their order. A token is an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vocabulary {
    characters: Vec<char>,
    tokens: HashMap<char, i32>,
}

impl Vocabulary {
    pub(crate) fn of(text: &str) -> Self {
        let characters: Vec<char> = text.chars().collect::<BTreeSet<_>>().into_iter().collect();
        let tokens = characters.iter().copied().zip(0..).collect();
        Self { characters, tokens }
    }

    pub(crate) fn len(&self) -> usize {
        self.characters.len()
    }

    pub(crate) fn encode(&self, text: &str) -> Result<Vec<i32>, TextError> {
        let token = |character| {
            self.tokens.get(&character).copied().ok_or_else(|| TextError::UnknownCharacter {
                character,
                known: self.characters.iter().collect::<String>().escape_debug().to_string(),
            })
        };
        text.chars().map(token).collect()
    }

    /// Tokens outside the vocabulary are left out.
    pub(crate) fn decode(&self, tokens: &[i32]) -> String {
        tokens.iter().filter_map(|&token| self.characters.get(usize::try_from(token).ok()?)).collect()
    }
}

/// A text in two parts: its last tenth is for validation.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) vocabulary: Vocabulary,
    pub(crate) train: Vec<i32>,
    pub(crate) validation: Vec<i32>,
    /// One line that says which text this is.
    pub(crate) origin: String,
}

impl Text {
    /// The text of a file, or the one that comes with the example. Each part must hold a window of `context` tokens and
    /// the token after it.
    pub(crate) fn open(path: Option<&Path>, context: usize) -> Result<Self, TextError> {
        let Some(path) = path else {
            let origin = "Alice's Adventures in Wonderland, which comes with the example; --data FILE takes any text";
            return Self::new(ALICE, origin.to_owned(), context);
        };
        let text = fs::read_to_string(path)
            .map_err(|error| TextError::Unreadable { path: path.display().to_string(), error })?;
        Self::new(&text, path.display().to_string(), context)
    }

    pub(crate) fn new(text: &str, origin: String, context: usize) -> Result<Self, TextError> {
        let vocabulary = Vocabulary::of(text);
        let mut train = vocabulary.encode(text)?;
        let validation = train.split_off(train.len() - train.len() / 10);
        if validation.len() <= context {
            let len = train.len() + validation.len();
            return Err(TextError::TooShort { len, needed: 10 * (context + 1), context });
        }
        Ok(Self { vocabulary, train, validation, origin })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_decode_to_the_text_they_encode() {
        let text = "Drink me — «bitte»!\n\tßÄ 日本";
        let vocabulary = Vocabulary::of(text);
        let tokens = vocabulary.encode(text).expect("of the text");
        assert_eq!(vocabulary.decode(&tokens), text);
        assert_eq!(tokens.len(), text.chars().count());
        assert_eq!(tokens.iter().copied().max(), Some(vocabulary.len() as i32 - 1));
        let error = vocabulary.encode("Dinah").expect_err("no a in the text").to_string();
        assert!(error.contains("'a'") && error.contains("Drink".get(..1).expect("a letter")), "{error}");
    }

    #[test]
    fn the_last_tenth_is_for_validation() {
        let text = Text::new(&"abcde".repeat(20), String::new(), 8).expect("long enough");
        assert_eq!((text.train.len(), text.validation.len(), text.vocabulary.len()), (90, 10, 5));
        let error = Text::new("abcdefgh", String::new(), 8).expect_err("too short").to_string();
        assert!(error.contains("8 characters") && error.contains("at least 90"), "{error}");
    }

    #[test]
    fn the_text_of_the_example_is_plain() {
        let text = Text::open(None, 64).expect("it comes with the example");
        assert!(text.train.len() > 120_000 && text.vocabulary.len() < 80, "{}", text.vocabulary.len());
        assert!(text.vocabulary.decode(&text.train).starts_with("ALICE'S ADVENTURES IN WONDERLAND\n\nLewis Carroll"));
        assert!(text.vocabulary.decode(&text.validation).ends_with("THE END\n"));
        assert!(
            Text::open(Some(Path::new("no/such/file")), 64).expect_err("missing").to_string().contains("no/such/file")
        );
    }
}
