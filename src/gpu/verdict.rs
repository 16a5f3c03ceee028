//! The device's verdict on a kernel. Browsers compile after the call has returned; elsewhere the verdict is there at once.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use wgpu::{CompilationMessage, CompilationMessageType, ErrorScopeGuard, ShaderModule};

use super::shader::Composed;
use crate::Error;

/// Resolves to the compiler's message if the device refuses the kernel.
#[cfg(not(target_arch = "wasm32"))]
type Pending = Pin<Box<dyn Future<Output = Option<String>> + Send>>;
#[cfg(target_arch = "wasm32")]
type Pending = Pin<Box<dyn Future<Output = Option<String>>>>;

enum State {
    Pending(Pending),
    Accepted,
    Refused(String),
}

/// Whether the device accepts a kernel.
pub(crate) struct Verdict {
    rule: String,
    state: Mutex<State>,
}

impl fmt::Debug for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verdict").field("rule", &self.rule).finish_non_exhaustive()
    }
}

impl Verdict {
    /// Ends the scope in which the module and its pipeline were made.
    pub(crate) fn new(rule: &str, scope: ErrorScopeGuard, module: ShaderModule, composed: &Composed) -> Self {
        let (scope, composed) = (scope.pop(), composed.clone());
        let messages = async move {
            let error = scope.await?;
            let messages = module.get_compilation_info().await.messages;
            Some(described(&messages, &composed).unwrap_or_else(|| error.to_string()))
        };
        Self { rule: rule.to_owned(), state: Mutex::new(State::Pending(Box::pin(messages))) }
    }

    /// Resolves once the device has compiled the kernel.
    ///
    /// # Errors
    /// [`Error::Shader`].
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Pending(pending) = &mut *state {
            let Poll::Ready(message) = pending.as_mut().poll(context) else { return Poll::Pending };
            *state = message.map_or(State::Accepted, State::Refused);
        }
        Poll::Ready(match &*state {
            State::Refused(message) => Err(Error::Shader { rule: self.rule.clone(), message: message.clone() }),
            _ => Ok(()),
        })
    }
}

/// The errors among the compiler's messages, with their lines; `None` without one.
fn described(messages: &[CompilationMessage], composed: &Composed) -> Option<String> {
    let errors = messages.iter().filter(|message| message.message_type == CompilationMessageType::Error);
    let lines = errors.map(|error| {
        let Some(at) = error.location else { return error.message.clone() };
        let text = composed.source.lines().nth((at.line_number as usize).saturating_sub(1)).unwrap_or_default();
        let (file, line, column) = (composed.file(at.line_number), at.line_number, at.line_position);
        format!("{file}:{line}:{column}: {}\n    {}", error.message, text.trim())
    });
    let lines: Vec<_> = lines.collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn a_verdict_comes_once_and_stays() {
        let mut polls = 0;
        let late = std::future::poll_fn(move |_| {
            polls += 1;
            if polls < 2 { Poll::Pending } else { Poll::Ready(Some("rule.wgsl:3:5: unexpected token".to_owned())) }
        });
        let verdict = Verdict { rule: "mine".to_owned(), state: Mutex::new(State::Pending(Box::pin(late))) };
        let mut context = Context::from_waker(Waker::noop());
        assert!(verdict.poll(&mut context).is_pending());
        for _ in 0..2 {
            let Poll::Ready(Err(error)) = verdict.poll(&mut context) else { panic!("no error") };
            let message = "rule \"mine\": its kernel does not compile\nrule.wgsl:3:5: unexpected token";
            assert_eq!(error.to_string(), message);
        }
        let accepted = Verdict { rule: String::new(), state: Mutex::new(State::Pending(Box::pin(async { None }))) };
        assert!(matches!(accepted.poll(&mut context), Poll::Ready(Ok(()))));
    }
}
