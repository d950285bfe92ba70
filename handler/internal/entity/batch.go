package entity

import (
	"encoding/base64"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Batch is what the host asks of an entity in one invocation. State is JSON; nil means that the entity has no state.
type Batch struct {
	ID         string // as the caller wrote it
	State      []byte
	Operations []Operation
}

// Operation is one operation of a batch. Input is JSON; nil means no input.
type Operation struct {
	Name      string
	RequestID string // a GUID
	Input     []byte
}

// DecodeBatch reads the text of an entity trigger's value: base64 of a protobuf EntityBatchRequest. The batch does not share
// memory with the text.
func DecodeBatch(text []byte) (*Batch, error) {
	raw, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil {
		return nil, fmt.Errorf("the entity trigger's value is not base64: %w", err)
	}
	b := &Batch{}
	err = eachField(raw, func(number protowire.Number, value []byte) (err error) {
		switch number {
		case 1:
			b.ID = string(value)
		case 2:
			b.State, err = stringValue(value)
		case 3:
			var o Operation
			o, err = decodeOperation(value)
			b.Operations = append(b.Operations, o)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("the entity trigger's value is no EntityBatchRequest: %w", err)
	}
	if _, ok := ParseID(b.ID); !ok {
		return nil, fmt.Errorf("the batch is for %.120q, which is no entity: its id must be @name@key", b.ID)
	}
	return b, nil
}

func decodeOperation(raw []byte) (o Operation, err error) {
	err = eachField(raw, func(number protowire.Number, value []byte) (err error) {
		switch number {
		case 1:
			o.Name = string(value)
		case 2:
			o.RequestID = string(value)
		case 3:
			o.Input, err = stringValue(value)
		}
		return err
	})
	return o, err
}

// Encode is the reverse of DecodeBatch, for hosts.
func (b *Batch) Encode() string {
	m := appendString(nil, 1, b.ID)
	m = appendStringValue(m, 2, b.State)
	for _, o := range b.Operations {
		operation := appendString(nil, 1, o.Name)
		operation = appendString(operation, 2, o.RequestID)
		m = appendMessage(m, 3, appendStringValue(operation, 3, o.Input))
	}
	// {"RollbackEntityOperationsOnExceptions": true}
	rollback := appendString(nil, 1, "RollbackEntityOperationsOnExceptions")
	yes := protowire.AppendVarint(protowire.AppendTag(nil, 4, protowire.VarintType), 1)
	m = appendMessage(m, 4, appendMessage(rollback, 2, yes))
	return base64.StdEncoding.EncodeToString(m)
}

// eachField calls f with each text and each message among the fields of a protobuf message. It skips the other fields.
func eachField(raw []byte, f func(protowire.Number, []byte) error) error {
	for len(raw) > 0 {
		number, kind, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return protowire.ParseError(n)
		}
		raw = raw[n:]
		if kind != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(number, kind, raw); n < 0 {
				return protowire.ParseError(n)
			}
			raw = raw[n:]
			continue
		}
		value, n := protowire.ConsumeBytes(raw)
		if n < 0 {
			return protowire.ParseError(n)
		}
		raw = raw[n:]
		if err := f(number, value); err != nil {
			return err
		}
	}
	return nil
}

// varint returns the value of a number's field; 0 if the message does not have it.
func varint(raw []byte, field protowire.Number) (v uint64) {
	for len(raw) > 0 {
		number, kind, n := protowire.ConsumeField(raw)
		if n < 0 {
			break
		}
		if number == field && kind == protowire.VarintType {
			v, _ = protowire.ConsumeVarint(raw[protowire.SizeTag(number):])
		}
		raw = raw[n:]
	}
	return v
}

// stringValue reads a google.protobuf.StringValue. It never returns nil, because an empty text is a value.
func stringValue(raw []byte) ([]byte, error) {
	text := []byte{}
	err := eachField(raw, func(number protowire.Number, value []byte) error {
		if number != 1 {
			return errors.New("a text has an unknown field")
		}
		text = append([]byte{}, value...)
		return nil
	})
	return text, err
}

func appendString(m []byte, field protowire.Number, text string) []byte {
	if text == "" {
		return m
	}
	return protowire.AppendString(protowire.AppendTag(m, field, protowire.BytesType), text)
}

// appendStringValue appends a StringValue, unless the text is nil.
func appendStringValue(m []byte, field protowire.Number, text []byte) []byte {
	if text == nil {
		return m
	}
	return appendMessage(m, field, appendString(nil, 1, string(text)))
}

func appendMessage(m []byte, field protowire.Number, message []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(m, field, protowire.BytesType), message)
}
