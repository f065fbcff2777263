//! One connection and its limits: no line harms another, no client harms another.

use std::io::{ErrorKind, Read, Write};
use std::thread::{self, sleep};
use std::time::Duration;

use serde_json::json;

use super::protocol::refused;
use crate::world::{DIMENSIONS, World, units};

#[test]
fn bad_lines_in_one_great_write_harm_neither_the_good_ones_nor_the_order() {
    const LINES: u64 = 6000;
    let world = World::at_noon();
    let agent = world.start();
    let mut client = agent.lines();
    let mut text = String::new();
    let mut expected = Vec::new();
    let mut seq = 0;
    for n in 0..LINES {
        let (line, answer) = match n % 8 {
            0 => ("{broken".to_owned(), "bad_request".to_owned()),
            1 => (r#"{"dimension":"nothing","quantity":1}"#.into(), "unknown_dimension".into()),
            2 => (format!(r#"{{"dimension":"requests","quantity":1,"key":"key-{n}"}}"#), String::new()),
            3 => ("\n \t\r".into(), "no answer".into()),
            4 => {
                (r#"[{"dimension":"requests","quantity":1},{"dimension":"requests","quantity":1}]"#.into(), "2".into())
            }
            5 => ("\u{0}\u{1}\u{2}".into(), "bad_request".into()),
            _ => (r#"{"dimension":"requests","quantity":1}"#.into(), String::new()),
        };
        text += &line;
        text += if n % 3 == 0 { "\r\n" } else { "\n" };
        match answer.as_str() {
            "no answer" => {}
            "" => {
                seq += 1;
                expected.push(json!(seq));
            }
            "2" => {
                seq += 2;
                expected.push(json!(seq));
            }
            code => expected.push(json!(code)),
        }
    }
    // An empty connection's first byte may be white space.
    let mut writer = client.split();
    let sender = thread::spawn(move || writer.write_all(format!("\n{text}").as_bytes()).unwrap());
    for (n, expected) in expected.iter().enumerate() {
        let answer = client.answer();
        let told = if answer["ok"] == true { &answer["seq"] } else { &answer["error"] };
        assert_eq!(told, expected, "answer {n}: {answer}");
    }
    sender.join().unwrap();
    assert_eq!(units(&agent.books("requests"), "received"), seq);
    // The connection lives on.
    assert_eq!(client.ask(r#"{"dimension":"requests","quantity":1}"#)["seq"], seq + 1);
}

#[test]
fn a_half_closed_client_still_hears_everything_but_an_unterminated_line_is_not_taken() {
    const LINES: usize = 20_000;
    let world = World::at_noon();
    let agent = world.start();
    let mut client = agent.lines();
    let mut writer = client.split();
    let sender = thread::spawn(move || {
        let line = "{\"dimension\":\"requests\",\"quantity\":1}\n".repeat(LINES);
        writer.write_all(line.as_bytes()).unwrap();
        // Whose writer was cut off in the middle of 100.
        writer.write_all(b"{\"dimension\":\"requests\",\"quantity\":10").unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    sender.join().unwrap();
    for seq in 1..=LINES {
        assert_eq!(client.answer()["seq"], seq);
    }
    assert_eq!(client.line(), None);
    assert_eq!(units(&agent.books("requests"), "received"), LINES as u64);
    // Also one that would be whole.
    let mut client = agent.lines();
    client.send(r#"{"dimension":"requests","quantity":1}"#);
    client.half_close();
    assert_eq!(client.line(), None);
    assert_eq!(units(&agent.books("requests"), "received"), LINES as u64);
}

#[test]
fn a_line_that_is_too_large_ends_the_connection_after_the_answers_before_it() {
    let world = World::at_noon();
    let agent = world.start();
    let good = r#"{"dimension":"requests","quantity":1}"#;
    // The longest line there is.
    let filler = 64 * 1024 - good.len();
    let mut client = agent.lines();
    let longest = good.replace(':', &format!(":{}", " ".repeat(filler / 2)));
    let longest = format!("{longest}{}", " ".repeat(64 * 1024 - longest.len()));
    assert_eq!(client.ask(&longest)["seq"], 1);
    client.send(format!("{good}\n{longest} \n{good}\n"));
    assert_eq!(client.answer()["seq"], 2);
    refused(&client.answer(), "too_large");
    assert_eq!(client.line(), None);
    // Without an end it is too large as soon as it is too long.
    let mut client = agent.lines();
    client.send(format!("{{{}", "x".repeat(64 * 1024)));
    refused(&client.answer(), "too_large");
    assert_eq!(client.line(), None);
    assert_eq!(units(&agent.books("requests"), "received"), 2);
}

#[test]
fn the_first_byte_tells_the_protocol_and_another_one_ends_the_connection() {
    let world = World::at_noon();
    let agent = world.start();
    for first in ["\"", "1", "-", "}", "\u{0}", "é", "#"] {
        let mut client = agent.lines();
        client.send(format!("{first}{{\"dimension\":\"requests\",\"quantity\":1}}\n"));
        refused(&client.answer(), "bad_request");
        assert_eq!(client.line(), None, "{first:?}");
    }
    for first in [" ", "\t", "\r", "\n", "\r\n\r\n", ""] {
        let mut client = agent.lines();
        assert_eq!(client.ask(&format!("{first}{{\"dimension\":\"requests\",\"quantity\":1}}"))["ok"], true);
    }
    // Byte by byte is fine too.
    let mut client = agent.lines();
    for byte in b"{\"dimension\":\"requests\",\"quantity\":1}\n" {
        client.send([*byte]);
        sleep(Duration::from_millis(1));
    }
    assert_eq!(client.answer()["seq"], 7);
}

#[test]
fn a_client_that_never_reads_harms_no_other_and_gets_its_answers_when_it_does() {
    let world = World::at_noon();
    let agent = world.start();
    let mut deaf = agent.lines();
    let mut writer = deaf.split();
    writer.set_nonblocking(true).unwrap();
    let line = b"{\"dimension\":\"gigabytes\",\"quantity\":1}\n";
    let block = line.repeat(1000);
    let (mut sent, mut stalled) = (0usize, 0);
    while stalled < 100 {
        match writer.write(&block[sent % line.len()..]) {
            Ok(n) => (sent, stalled) = (sent + n, 0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                stalled += 1;
                sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("{error}"),
        }
        assert!(sent < 256 << 20, "the agent reads on and on for a client that does not read");
    }
    let mut other = agent.lines();
    for _ in 0..100 {
        assert_eq!(other.ask(r#"{"dimension":"requests","quantity":1}"#)["ok"], true);
    }
    writer.set_nonblocking(false).unwrap();
    let rest = line[sent % line.len()..].to_vec();
    let sender = thread::spawn(move || {
        writer.write_all(&rest).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let lines = sent.div_ceil(line.len());
    for n in 0..lines {
        assert_eq!(deaf.answer()["ok"], true, "{n} of {lines}");
    }
    sender.join().unwrap();
    // What was cut in two by the last write that fitted.
    let extra = usize::from(sent.is_multiple_of(line.len()));
    (0..extra).for_each(|_| assert_eq!(deaf.answer()["ok"], true));
    assert_eq!(deaf.line(), None);
    assert_eq!(units(&agent.books("gigabytes"), "received"), (lines + extra) as u64);
}

#[test]
fn what_follows_a_refused_connection_is_not_kept_in_memory() {
    let world = World::at_noon();
    let agent = world.start();
    let client = agent.lines();
    let mut writer = client.split();
    writer.set_nonblocking(true).unwrap();
    let refusal = agent.lines().ask("{}").to_string().len() + 1;
    // Answers that nobody reads, as many as the kernel's buffer holds and some more; then a line that is too large.
    let mut push = |bytes: &[u8], most: usize| {
        let (mut sent, mut stalled) = (0, 0);
        while sent < most && stalled < 60 {
            match writer.write(&bytes[sent % bytes.len()..]) {
                Ok(n) => (sent, stalled) = (sent + n, 0),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    stalled += 1;
                    sleep(Duration::from_millis(5));
                }
                Err(_) => break,
            }
        }
        sent
    };
    let answers = b"{}\n".repeat(240_000 / refusal);
    assert_eq!(push(&answers, answers.len()), answers.len());
    push(&b"x".repeat(100_000), 200_000);
    let most = 64 << 20;
    let taken = push(&b"x".repeat(1 << 16), most);
    assert!(taken < most / 4, "{taken} bytes were read of a connection that is over");
    drop(client);
    assert_eq!(agent.tell(r#"{"dimension":"requests","quantity":1}"#)["ok"], true);
}

#[test]
fn a_line_of_thousands_of_tags_is_refused_without_delay() {
    let world = World::at_noon();
    world.configure("http://127.0.0.1:9", DIMENSIONS, "", "");
    let agent = world.start();
    let tags: Vec<String> = (0..6500).map(|n| format!("\"{n:03x}\":\"\"")).collect();
    let line = format!(r#"{{"dimension":"requests","quantity":1,"tags":{{{}}}}}"#, tags.join(","));
    assert!(line.len() < 64 * 1024);
    let mut client = agent.lines();
    refused(&client.ask(&line), "bad_tags");
    let mut rest = Vec::new();
    client.half_close();
    client.split().read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
}
