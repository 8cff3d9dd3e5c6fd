"""Text in, batches out: corpora, tokenizers, token files, sample order and batches."""

from tempra.data.abi_checkpoint import AbiCheckpoint, read_abi_checkpoint
from tempra.data.batch import IGNORED_LABEL, Batch
from tempra.data.batch_source import BatchIterator, DataLoader, validation_batches
from tempra.data.chat_template import ChatTemplate, load_template
from tempra.data.conversation import Conversation, Message, PlainText, PreferencePair
from tempra.data.corpus import Corpus
from tempra.data.document_batches import document_batches
from tempra.data.instruction_dataset import (
    InstructionDataset,
    MalformedLine,
    MalformedLinesError,
    parse_instruction_dataset,
    stream_examples,
)
from tempra.data.instruction_formats import FORMATS, Detection, ExampleReader, detect_format
from tempra.data.mixture import Mixture
from tempra.data.preparation import Preparation
from tempra.data.prepared import PreparedDataset
from tempra.data.row_options import RowOptions
from tempra.data.sample_order import SampleOrder
from tempra.data.sequence_packer import PackedDocuments, SequencePacker
from tempra.data.token_bin import read_token_bin_file, write_token_bin_file
from tempra.data.token_dataset import TokenizedDataset
from tempra.data.tokenizer import (
    ByteTokenizer,
    CharacterTokenizer,
    Tokenizer,
    load_tokenizer,
    save_tokenizer,
)
from tempra.data.wdbx import (
    WdbxTokenDataset,
    read_wdbx_records,
    token_bin_to_wdbx,
    wdbx_to_token_bin,
)

__all__ = [
    "FORMATS",
    "IGNORED_LABEL",
    "AbiCheckpoint",
    "Batch",
    "BatchIterator",
    "ByteTokenizer",
    "CharacterTokenizer",
    "ChatTemplate",
    "Conversation",
    "Corpus",
    "DataLoader",
    "Detection",
    "ExampleReader",
    "InstructionDataset",
    "MalformedLine",
    "MalformedLinesError",
    "Message",
    "Mixture",
    "PackedDocuments",
    "PlainText",
    "PreferencePair",
    "Preparation",
    "PreparedDataset",
    "RowOptions",
    "SampleOrder",
    "SequencePacker",
    "TokenizedDataset",
    "Tokenizer",
    "WdbxTokenDataset",
    "detect_format",
    "document_batches",
    "load_template",
    "load_tokenizer",
    "parse_instruction_dataset",
    "read_abi_checkpoint",
    "read_token_bin_file",
    "read_wdbx_records",
    "save_tokenizer",
    "stream_examples",
    "token_bin_to_wdbx",
    "validation_batches",
    "wdbx_to_token_bin",
    "write_token_bin_file",
]
