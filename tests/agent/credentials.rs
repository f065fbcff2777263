//! Whose credentials calls are signed with: the environment's, those of a profile that is named, or of a role that is assumed.
//! The Security Token Service is one of the test's own.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::fake_aws::FakeAws;
use crate::world::{Ran, World};

const SAAS: &str = "kind = \"saas\"\n[[dimension]]\nname = \"requests\"\n";
const ROLE: &str = "arn:aws:iam::123456789012:role/metering";
const GRANTED: &str = "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
    <AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>secret</SecretAccessKey><SessionToken>token</SessionToken>\
    <Expiration>2100-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>";

/// A token service that gives everybody the role; returns its address and what it was asked.
fn token_service() -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (tell, asked) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut request, mut bytes) = (String::new(), [0; 4096]);
            // Its form ends with the version of the protocol, or holds it anyway: one read more and one less are the same.
            while !request.contains("Version=2011-06-15") {
                match stream.read(&mut bytes).unwrap() {
                    0 => break,
                    n => request += &String::from_utf8_lossy(&bytes[..n]),
                }
            }
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{GRANTED}",
                GRANTED.len()
            );
            stream.write_all(answer.as_bytes()).unwrap();
            if tell.send(request).is_err() {
                return;
            }
        }
    });
    (address, asked)
}

#[test]
fn a_profile_goes_before_the_environment_and_a_role_is_taken_on_with_it() {
    let mut world = World::at_noon();
    let aws = FakeAws::simulation(&mut world, &[]);
    let home = world.path("home");
    fs::create_dir_all(home.join(".aws")).unwrap();
    let keys = "[default]\naws_access_key_id = AKIADEFAULT\naws_secret_access_key = secret\n\
                [seller]\naws_access_key_id = AKIASELLER\naws_secret_access_key = secret\n";
    fs::write(home.join(".aws/credentials"), keys).unwrap();
    let (tokens, asked) = token_service();
    let signs_with = |submit: &str, environment: bool| -> String {
        world.configure(&aws.url(), SAAS, submit, "");
        let mut command = world.meterd(&["doctor", "--json"]);
        command.env("HOME", &home).env("AWS_ENDPOINT_URL_STS", &tokens);
        if !environment {
            command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
        }
        let checks = Ran::of(&mut command).json();
        let role = checks.as_array().unwrap().iter().find(|check| check["check"] == "role").unwrap();
        role["found"].as_str().unwrap().to_owned()
    };
    let assumed = format!("role_arn = \"{ROLE}\"");
    let named = "profile = \"seller\"".to_owned();
    for (submit, environment, key) in [
        (String::new(), true, "AKIDTEST"),
        (String::new(), false, "AKIADEFAULT"),
        (named.clone(), true, "AKIASELLER"),
        (format!("{named}\n{assumed}"), true, "ASIAROLE"),
    ] {
        let found = signs_with(&submit, environment);
        assert!(found.contains(&format!("key {key}")), "{submit:?}: {found}");
    }
    let request = asked.recv_timeout(Duration::from_secs(60)).unwrap();
    for words in ["Credential=AKIASELLER/", "Action=AssumeRole", "RoleSessionName=meterd", "123456789012"] {
        assert!(request.contains(words), "{words} in {request}");
    }
    let found = signs_with("profile = \"nobody\"", true);
    assert!(found.contains("nobody"), "a profile that is not there is no reason to take another one's keys: {found}");
}
