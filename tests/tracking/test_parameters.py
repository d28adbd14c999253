import pytest

from reprise.tracking.parameters import MASK, is_secret, parameters, without_credentials


def test_nested_values_have_dotted_names_and_lists_stay_whole() -> None:
    config = {"seed": 1, "training": {"optimizer": {"betas": [0.9, 0.99]}, "max_steps": None}, "tracker": {}}
    assert parameters(config) == {
        "seed": 1,
        "training.optimizer.betas": [0.9, 0.99],
        "training.max_steps": None,
        "tracker": {},
    }


@pytest.mark.parametrize("key", ["password", "api_key", "API-KEY", "hf_token", "db_password", "client_secret", "access_key_id"])
def test_values_under_names_of_secrets_are_masked(key: str) -> None:
    assert is_secret(key)
    assert parameters({"data": {key: "x"}}) == {f"data.{key}": MASK}


def test_in_a_tracker_a_token_is_a_secret_and_elsewhere_a_word_of_a_text() -> None:
    config = {"tracker": {"mine": {"token": "x", "key": "y"}}, "model": {"tokenizer": "word", "pad_token": "[PAD]"}}
    assert parameters(config) == {
        "tracker.mine.token": MASK,
        "tracker.mine.key": MASK,
        "model.tokenizer": "word",
        "model.pad_token": "[PAD]",
    }


def test_addresses_lose_user_and_password() -> None:
    assert without_credentials("at https://me:pw@host:5000/x and postgresql://me@db/y") == (
        "at https://host:5000/x and postgresql://db/y"
    )
    assert parameters({"data": {"path": "s3://id:pw@bucket/x"}}) == {"data.path": "s3://bucket/x"}
