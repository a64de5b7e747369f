//! The man page, from the definition of the command line: tracer(1), with a section for each command.

use std::io::{self, Write};

use clap_mangen::Man;

use crate::cli::Cli;

/// Writes the page, in roff.
///
/// # Errors
/// Those of `out`.
pub fn render(out: &mut dyn Write) -> io::Result<()> {
    let mut definition = Cli::command_definition();
    definition.build();
    let commands: Vec<_> = definition.get_subcommands().cloned().collect();
    let page = Man::new(definition);
    page.render_title(out)?;
    page.render_name_section(out)?;
    page.render_synopsis_section(out)?;
    page.render_description_section(out)?;
    page.render_options_section(out)?;
    commands.into_iter().try_for_each(|command| render_command(command, out))?;
    page.render_extra_section(out)?;
    page.render_version_section(out)
}

/// A command with what it does and its options; those of a command below it stand in its own help.
fn render_command(command: clap::Command, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, ".SH TRACER {}", command.get_name().to_uppercase())?;
    let page = Man::new(command);
    let mut text = Vec::new();
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    // Sections of a command are below the command's own.
    out.write_all(String::from_utf8_lossy(&text).replace(".SH ", ".SS ").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_every_command_and_option() {
        let mut bytes = Vec::new();
        render(&mut bytes).unwrap();
        let text = String::from_utf8(bytes).unwrap().replace("\\-", "-");
        let definition = Cli::command_definition();
        for command in definition.get_subcommands() {
            let heading = format!(".SH TRACER {}", command.get_name().to_uppercase());
            assert!(text.contains(&heading), "{heading} is not in {text}");
            for option in command.get_arguments().filter(|option| !option.is_hide_set()) {
                let long = option.get_long().unwrap_or_default();
                assert!(text.contains(long), "{long} is not in {text}");
            }
        }
        assert!(text.starts_with(".ie"), "{text}");
        assert!(text.contains("Exit codes:"), "{text}");
    }
}
