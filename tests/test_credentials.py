import pytest

from reprise.credentials import is_secret, without_credentials


@pytest.mark.parametrize(
    "key", ["password", "api_key", "API-KEY", "hf_token", "db_password", "client_secret", "access_key_id"]
)
def test_names_of_secrets_are_known(key: str) -> None:
    assert is_secret(key)


@pytest.mark.parametrize(
    "key", ["tokenizer", "pad_token", "max_tokens", "key", "token", "num_key_value_heads", "secretary"]
)
def test_other_names_are_not_taken_for_secrets(key: str) -> None:
    assert not is_secret(key)


def test_in_a_tracker_a_token_is_a_secret() -> None:
    assert is_secret("token", is_of_tracker=True)
    assert not is_secret("project", is_of_tracker=True)


def test_addresses_lose_user_and_password() -> None:
    assert without_credentials("at https://me:pw@host:5000/x and postgresql://me@db/y") == (
        "at https://host:5000/x and postgresql://db/y"
    )
