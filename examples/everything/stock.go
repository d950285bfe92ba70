package main

import (
	"context"
	"fmt"

	"example.com/durablefunctions/handler/durable"
)

// capacity is how many pieces of an item there are.
const capacity = 100

// stock is the state of the entity Stock, of which each item has its own: the key is the item.
type stock struct {
	Reserved int `json:"reserved"`
}

// Reserve takes pieces out of the stock and returns how many are left. The host runs an entity's operations one after the other, so
// no piece is sold twice.
func (s *stock) Reserve(_ context.Context, n int) (left int, err error) {
	if n < 1 || s.Reserved+n > capacity {
		return 0, fmt.Errorf("%d of %d left", capacity-s.Reserved, capacity)
	}
	s.Reserved += n
	return capacity - s.Reserved, nil
}

// Restock puts pieces back and returns how many are there.
func (s *stock) Restock(_ context.Context, n int) (left int, err error) {
	s.Reserved = max(0, s.Reserved-n)
	return capacity - s.Reserved, nil
}

const stocks = durable.EntityName[stock]("Stock")

var (
	reserve = durable.NewOperation(stocks, "Reserve", (*stock).Reserve)
	restock = durable.NewOperation(stocks, "Restock", (*stock).Restock)
)
