/** What a repository of the Hub is called. */
export interface HubName {
  readonly kind: 'model' | 'dataset';
  /** `org/name` */
  readonly id: string;
}

/** Its path on the Hub's site. */
export const sitePath = ({ kind, id }: HubName): string => (kind === 'dataset' ? `datasets/${id}` : id);
